"""The short cut past the framework: it gives the same answers and errors."""

import httpx
import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response

from shared.http.application import create_app
from shared.http.middleware import MAX_BODY_BYTES
from shared.http.problems import Problem
from shared.persistence.failures import DatabaseUnavailable

router = APIRouter()


@router.post("/echo")
async def echo(request: Request) -> Response:
    """Answers with the body, or fails as the body says."""
    match body := await request.body():
        case b"wrong":
            raise Problem.of_field("body", "wrong")
        case b"away":
            raise DatabaseUnavailable("gone")
        case b"bug":
            raise RuntimeError("a bug")
    return Response(body, headers={"Short-Cut": str("endpoint" not in request.scope)})


def client(*, is_short: bool) -> httpx.AsyncClient:
    app = create_app(title="Echo", description="", operator_token="")
    app.include_router(router)
    if is_short:
        app.add_short_cut("POST", "/echo", echo)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://echo")


async def test_only_a_call_with_a_short_cut_goes_past_the_framework() -> None:
    async with client(is_short=True) as short, client(is_short=False) as long:
        assert (await short.post("/echo", content=b"hello")).headers["Short-Cut"] == "True"
        assert (await long.post("/echo", content=b"hello")).headers["Short-Cut"] == "False"


@pytest.mark.parametrize("body", [b"hello", b"", b"wrong", b"away", b"bug", b"x" * (MAX_BODY_BYTES + 1)])
async def test_a_short_cut_gives_the_frameworks_answer(body: bytes) -> None:
    await expect_same_answer("POST", "/echo", body)


@pytest.mark.parametrize(("method", "path"), [("GET", "/echo"), ("DELETE", "/echo"), ("POST", "/nowhere")])
async def test_every_other_call_goes_through_the_framework(method: str, path: str) -> None:
    await expect_same_answer(method, path)


async def expect_same_answer(method: str, path: str, body: bytes = b"") -> None:
    async with client(is_short=True) as short, client(is_short=False) as long:
        answer = await short.request(method, path, content=body)
        expected = await long.request(method, path, content=body)

    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    for header in ("content-type", "retry-after", "allow"):
        assert answer.headers.get(header) == expected.headers.get(header)

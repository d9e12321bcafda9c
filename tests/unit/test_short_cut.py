"""The short cut to a call: the same answers, errors among them, as through the framework."""

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
    """Answers with the body, or fails as it is told to."""
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


async def test_it_is_taken_where_there_is_one_and_only_there() -> None:
    async with client(is_short=True) as short, client(is_short=False) as long:
        assert (await short.post("/echo", content=b"hello")).headers["Short-Cut"] == "True"
        assert (await long.post("/echo", content=b"hello")).headers["Short-Cut"] == "False"


@pytest.mark.parametrize("body", [b"hello", b"", b"wrong", b"away", b"bug", b"x" * (MAX_BODY_BYTES + 1)])
async def test_a_call_is_answered_as_on_the_long_way(body: bytes) -> None:
    async with client(is_short=True) as short, client(is_short=False) as long:
        answer, expected = await short.post("/echo", content=body), await long.post("/echo", content=body)

    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert answer.headers.get("content-type") == expected.headers.get("content-type")
    assert answer.headers.get("retry-after") == expected.headers.get("retry-after")


@pytest.mark.parametrize(("method", "path"), [("GET", "/echo"), ("DELETE", "/echo"), ("POST", "/nowhere")])
async def test_every_other_call_goes_the_long_way(method: str, path: str) -> None:
    async with client(is_short=True) as short, client(is_short=False) as long:
        answer, expected = await short.request(method, path), await long.request(method, path)

    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert answer.headers.get("allow") == expected.headers.get("allow")

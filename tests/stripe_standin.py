"""A stand-in for Stripe: localstripe, which keeps the charges, and in front of it what it lacks.

The front keeps the answer of each idempotency key, as Stripe does, and lets a test lose, delay and fail answers.
localstripe is under the GPL: its process runs in an environment of its own, and nothing here imports it.
"""

import asyncio
import operator
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from control_room.launcher.children import end, spawn, tail
from control_room.launcher.ports import free_ports
from tests.support import eventually

PYTHON = Path(__file__).parents[1] / ".venv/localstripe/bin/python"
KEY = "sk_test_of_the_tests"
EXPANDED = {"expand[]": "data.payment_intent"}
BOUNDS = {
    "created[gt]": operator.gt, "created[gte]": operator.ge, "created[lt]": operator.lt, "created[lte]": operator.le
}  # fmt: skip

# It would listen on every address, and write a file into /tmp after each change.
START = """
import socket
from localstripe import resources, server
bind = socket.socket.bind
socket.socket.bind = lambda self, address: bind(self, ("::ffff:127.0.0.1", *address[1:]))
resources.Store.dump_to_disk = lambda self: None
server.start()
"""


@dataclass
class Stripe:
    """`fails_with`: the status that every call gets, and nothing is done. `loses`: so many answers get lost.

    `breaks`: so many calls fail with a 500 that is kept for their key. `ages`: by order, how many seconds ago its
    charge and refund are said to have been made.
    """

    localstripe: httpx.AsyncClient
    url: str = ""
    fails_with: int = 0
    loses: int = 0
    breaks: int = 0
    delay_seconds: float = 0.0
    calls: int = 0
    kept: dict[str, tuple[bytes, Response]] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)
    ages: dict[str, int] = field(default_factory=dict)

    async def listed(self, objects: str) -> list[dict[str, Any]]:
        """What localstripe itself has: its list of `charges` or `refunds`, each with its payment_intent."""
        answer = await self.localstripe.get(f"/v1/{objects}", params={"limit": 10_000, **EXPANDED})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return found

    async def of(self, order_id: str) -> list[tuple[str, str, int]]:
        """Every charge and refund of an order in localstripe's own lists: kind, status, amount."""
        return [
            (kind, each["status"], each["amount"])
            for kind in ("charges", "refunds")
            for each in await self.listed(kind)
            if each["payment_intent"]["metadata"].get("order_id") == order_id
        ]

    def recover(self) -> None:
        """No fault from now on."""
        self.fails_with = self.loses = self.breaks = 0
        self.delay_seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.calls += 1
        answer = await self._answer(request, await request.body())
        if self.loses and request.method == "POST":
            self.loses -= 1
            answer.headers["content-length"] = "100000"  # the connection breaks off before the end
        await answer(scope, receive, send)

    async def _answer(self, request: Request, body: bytes) -> Response:
        if self.fails_with:
            return _error(self.fails_with, "api_error", "the test wants it")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_request_error", "Invalid API Key provided")
        if request.query_params.keys() & BOUNDS.keys():
            return await self._narrowed(request.url.path.rpartition("/")[2], request.query_params)
        key = request.headers.get("idempotency-key")
        return await self._once(key, request, body) if key else await self._pass_on(request, body)

    async def _once(self, key: str, request: Request, body: bytes) -> Response:
        if key in self.under_way:
            return _error(409, "idempotency_error", "another request with this key is in progress")
        if key in self.kept:
            first_body, kept = self.kept[key]
            if first_body != body:
                return _error(400, "idempotency_error", "this key was used with other parameters")
            return Response(kept.body, kept.status_code, {"Idempotent-Replayed": "true"}, "application/json")
        self.under_way.add(key)
        try:
            answer = await self._broken() if self.breaks else await self._pass_on(request, body)
        finally:
            self.under_way.discard(key)
        self.kept[key] = (body, answer)
        return answer

    async def _narrowed(self, objects: str, query: Mapping[str, str]) -> Response:
        """A list within a span of time, newest first; localstripe knows no span, or only where it begins."""
        made = await self.listed(objects)
        for each in made:
            each["created"] -= self.ages.get(each["payment_intent"]["metadata"].get("order_id"), 0)
        bounds = [(holds, int(query[name])) for name, holds in BOUNDS.items() if name in query]
        found = [each for each in made if all(holds(each["created"], bound) for holds, bound in bounds)]
        found.sort(key=lambda each: each["created"], reverse=True)
        after = [number for number, each in enumerate(found, 1) if each["id"] == query.get("starting_after")]
        rest, limit = found[sum(after) :], int(query["limit"])
        return JSONResponse({"object": "list", "data": rest[:limit], "has_more": len(rest) > limit})

    async def _broken(self) -> Response:
        self.breaks -= 1
        return _error(500, "api_error", "an unexpected error")

    async def _pass_on(self, request: Request, body: bytes) -> Response:
        await asyncio.sleep(self.delay_seconds)
        # What Stripe knows and localstripe does not.
        body = body.replace(b"&error_on_requires_action=true", b"")
        body = body.replace(b"pm_card_visa_chargeDeclined", b"pm_card_chargeCustomerFail")
        body = body.replace(b"pm_card_refundFail", b"pm_card_visa")
        headers = {name: request.headers[name] for name in ("authorization", "content-type") if name in request.headers}
        answer = await self.localstripe.request(
            request.method, request.url.path, params=request.url.query, content=body, headers=headers
        )
        return Response(answer.content, answer.status_code, media_type="application/json")


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"type": kind, "message": message}}, status)


@asynccontextmanager
async def stripe_standin(directory: Path) -> AsyncIterator[Stripe]:
    """Tests that need it are skipped where localstripe is not installed, and fail there on CI."""
    if not PYTHON.exists():
        missing = f"{PYTHON} is missing: make .venv/localstripe/.installed"
        if os.environ.get("CI"):
            raise FileNotFoundError(missing)
        pytest.skip(missing)
    inner, front = free_ports(2)
    log = directory / "localstripe.log"
    process = await spawn([str(PYTHON), "-c", START, "--port", str(inner), "--from-scratch"], dict(os.environ), log)
    own = httpx.AsyncClient(base_url=f"http://127.0.0.1:{inner}", auth=(KEY, ""), timeout=20, trust_env=False)
    stripe = Stripe(own, f"http://127.0.0.1:{front}")

    async def answers() -> bool:
        assert process.returncode is None, tail(log)
        try:
            return (await own.get("/v1/charges")).is_success
        except httpx.TransportError:
            return False

    config = uvicorn.Config(stripe, "127.0.0.1", front, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        await eventually(answers, 30, "localstripe to answer")
        await eventually(lambda: server.started, 10, "the stand-in to answer")
        yield stripe
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        await own.aclose()
        await end(process, 5)

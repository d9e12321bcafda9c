"""The control room's own HTTP, as an open port has it; there is no system to show, and none of this needs one."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_room.launcher.children import end, spawn
from control_room.launcher.ports import free_ports
from tests.raw_http import Line, ask, connected
from tests.support import eventually

HOST = b"Host: evil.example\r\n"
NOWHERE = "http://127.0.0.1:1"
POLLING = b"POST /_nicegui_ws/socket.io/?EIO=4&transport=polling HTTP/1.1\r\n" + HOST
UPGRADE = (
    b"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Room = tuple[int, Path]


@pytest_asyncio.fixture(scope="module")
async def room(directory: Path) -> AsyncIterator[Room]:
    """Its port and its log."""
    (port,) = free_ports(1)
    log = directory / "control_room.log"
    system = {f"{name}_SERVICE_URL": NOWHERE for name in ("ORDER", "PAYMENT", "NOTIFICATION")}
    broker = {"RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/", "RABBITMQ_MANAGEMENT_URL": NOWHERE}
    variables = {**os.environ, **system, **broker, "HTTP_PORT": str(port), "OPERATOR_TOKEN": "t"}
    process = await spawn([str(Path(sys.executable).with_name("order-rail")), "control-room"], variables, log)
    try:
        await eventually(lambda: is_open(port), 60, f"the control room; its log: {log}")
        yield port, log
    finally:
        await end(process, 10)


async def is_open(port: int) -> bool:
    try:
        return (await ask(port, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/favicon.ico", "/nowhere", "/?token=t"])
async def test_head_is_answered_like_get(room: Room, path: str) -> None:
    got, head = [
        await ask(room[0], f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode(), method)
        for method in ("GET", "HEAD")
    ]

    assert head.status == got.status
    assert head.headers["content-type" if got.status != 303 else "location"]
    assert head.body == b""


@pytest.mark.parametrize("path", ["/livez/", "//evil.example", "/_nicegui_ws", "/_nicegui", "/nowhere/"])
async def test_nothing_leads_where_the_clients_host_header_says(room: Room, path: str) -> None:
    answer = await ask(room[0], f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")

    assert answer.status == 404
    assert "location" not in answer.headers


REFUSED = {
    "no request": (b"BREW\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a port that is none": (b"GET / HTTP/1.1\r\nHost: here:99999\r\n\r\n", 400),
    "a long header": (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "an endless header": (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 500_000, 431),
    "a long target": (b"GET /?" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a long upgrade": (UPGRADE[:-2] + b"A: b\r\n" * 200 + b"\r\n", 431),
    "a long body": (POLLING + b"Content-Length: 30000000\r\n\r\n" + b"a" * 3_000_000, 413),
    "another method": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 405),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_too_much_or_no_request_gets_a_problem(room: Room, request_: bytes, status: int) -> None:
    answer = await ask(room[0], request_)

    assert answer.status == status
    assert answer.problem()
    assert status != 405 or answer.headers["allow"] == "GET, HEAD"


async def test_a_websocket_is_still_one(room: Room) -> None:
    async with connected(room[0]) as line:
        await line.send(UPGRADE)
        answer = await line.answer("HEAD")
        assert (answer.status, answer.headers["upgrade"]) == (101, "websocket")


HANG_UPS = {
    "in the head": b"GET / HTTP/1.1\r\nHo",
    "before the page": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "in many pages": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 20,
    "before a body": POLLING + b"Content-Length: 3000\r\n\r\n",
    "in a body": POLLING + b"Content-Length: 3000\r\n\r\nab",
    "after an upgrade": UPGRADE,
}


@pytest.mark.parametrize("sent", HANG_UPS.values(), ids=HANG_UPS.keys())
async def test_a_client_that_hangs_up_is_no_error_of_ours(room: Room, sent: bytes) -> None:
    port, log = room
    before = len(log.read_text())
    for leave in (Line.hang_up, Line.reset):
        async with connected(port) as line:
            await line.send(sent)
            leave(line)
        for _ in range(5):  # each takes its turn after what the one that left has begun
            assert await is_open(port)
            await asyncio.sleep(0)
    told = [line for line in log.read_text()[before:].splitlines() if "unavailable" not in line]
    assert not [line for line in told if "Traceback" in line or "[error" in line], told

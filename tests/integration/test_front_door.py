"""The front door of the compose file, HAProxy with our configuration, natively and in front of replicas of a test."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from order_service.live import KEEP_ALIVE_SECONDS
from shared.http.limits import Limits
from tests.haproxy import CONFIGURATION, STATISTICS, Names, front_door, program, timeout_of
from tests.raw_http import END, GET, HOST, MIB, ask, connected
from tests.service.limited import limited, streams
from tests.support import SERVICES, eventually

ADDRESSES = ("127.0.0.2", "127.0.0.3")
SHORT = {"client": "1s", "server": "1s", "http-request": "1s", "queue": "1s"}
EVENTS = 12
UPLOAD = b"POST /length HTTP/1.1\r\n" + HOST
TARGET_SEPARATORS, HEADER_SEPARATORS = 20, 4
"""What stands in a head beside target and headers: method and version, and around the value of each header."""


@dataclass
class Replica:
    """Answers each request with its own address and what it was sent, or as the path says."""

    address: str
    is_ready: bool = True
    paths: list[str] = field(default_factory=list)
    events_sent: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                await writer.drain()
        writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        path = head.split(b" ")[1].decode()
        self.paths.append(path)
        match path:
            case "/readyz":
                writer.write(_answer(200 if self.is_ready else 503, b""))
            case "/breaks-off":
                return False
            case "/is-silent":
                await reader.read()
                return False
            case "/events":
                await self._stream(writer)
            case _:
                writer.write(_answer(200, self.address.encode() + b"\n" + head))
        return True

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        """Events for longer than any time limit."""
        self.events_sent = 0
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(EVENTS):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.events_sent += 1
            await asyncio.sleep(0.15)
        writer.write(b"0\r\n\r\n")


def _answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@dataclass
class Door:
    """`orders` leads to `replicas`, `payments` to a server of ours with its limits, `notifications` to nothing."""

    ports: Mapping[str, int]
    names: Names
    replicas: list[Replica]

    @property
    def orders(self) -> int:
        return self.ports["order_service"]

    @property
    def payments(self) -> int:
        return self.ports["payment_service"]

    @property
    def notifications(self) -> int:
        return self.ports["notification_service"]

    @property
    def statistics(self) -> int:
        return self.ports[STATISTICS]

    async def answering(self, requests: int = 4) -> set[str]:
        """The addresses that answer so many requests."""
        answers = [await ask(self.orders, b"GET /" + END) for _ in range(requests)]
        assert {answer.status for answer in answers} == {200}
        return {answer.body.decode().split("\n")[0] for answer in answers}

    async def metric(self, name: str, proxy: str) -> float:
        page = (await ask(self.statistics, b"GET /metrics" + END)).body.decode()
        return sum(float(value) for value in re.findall(rf'(?m)^{name}{{proxy="{proxy}".*}} (\S+)$', page))


@asynccontextmanager
async def replicas(port: int) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:
        found = [Replica(address) for address in ADDRESSES]
        for each in found:
            await stack.enter_async_context(await asyncio.start_server(each.serve, each.address, port))
        yield found


@pytest_asyncio.fixture(scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    if sys.platform != "linux":
        pytest.skip("only Linux answers at every address of 127.0.0.0/8")
    (port,) = free_ports(1)
    haproxy, directory = program(), tmp_path_factory.mktemp("front-door")
    async with replicas(port) as found, limited() as limited_port:
        names = {"order_service": list(ADDRESSES), "payment_service": ["127.0.0.1"]}
        ports = {"order_service": port, "payment_service": limited_port}
        async with front_door(names, ports, directory, SHORT, haproxy=haproxy) as (own, known):
            yield Door(own, known, found)


# --- which replica takes a request


async def test_requests_go_to_the_replicas_that_are_ready_and_to_all_if_none_is(door: Door) -> None:
    first, second = door.replicas
    assert await door.answering() == set(ADDRESSES)

    first.is_ready = False
    await eventually(lambda: _only(door, second.address), expecting="the replica to be left out")
    second.is_ready = False
    await eventually(lambda: _none_is_ready(door), expecting="both to be left out")
    assert await door.answering() == set(ADDRESSES)

    first.is_ready = second.is_ready = True
    await eventually(lambda: _both(door), expecting="both to be back")


async def _only(door: Door, address: str) -> bool:
    return await door.answering() == {address}


async def _both(door: Door) -> bool:
    return await door.answering() == set(ADDRESSES)


async def _none_is_ready(door: Door) -> bool:
    return await door.metric("haproxy_backend_active_servers", "order_service_ready") == 0


async def test_replicas_come_and_go_with_the_addresses_of_the_name(door: Door) -> None:
    door.names.of["order_service"] = [ADDRESSES[0], "127.0.0.9"]  # nothing listens there: asked, and not heard of
    await eventually(lambda: _only(door, ADDRESSES[0]), expecting="the replica to be gone")
    door.names.of["order_service"] = list(ADDRESSES)
    await eventually(lambda: _both(door), expecting="the replica to be there again")


# --- what is passed on


async def test_the_service_gets_the_address_of_the_client_whatever_the_client_says(door: Door) -> None:
    answer = await ask(door.orders, b"GET / HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 6.6.6.6\r\n\r\n")
    assert re.findall(rb"(?im)^x-forwarded-for: (\S+)\r$", answer.body) == [b"127.0.0.1"]


async def test_a_stream_is_neither_held_back_nor_cut_off(door: Door) -> None:
    """It lasts for longer than the time limits of this test."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=5) as http,
        http.stream("GET", f"http://127.0.0.1:{door.orders}/events") as stream,
    ):
        arrived = 0
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                assert int(line[6:]) == arrived
                arrived += 1
                assert max(replica.events_sent for replica in door.replicas) <= arrived + 1
    assert arrived == EVENTS


PASSED_ON = {
    "a long target": (b"GET /" + b"a" * 9000 + END, 414, "over 8192 bytes"),
    "a long header": (GET + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431, "The header a is over 8192 bytes"),
    "many headers": (GET + b"A: b\r\n" * 101 + b"\r\n", 431, "over 100 headers"),
    "headers long together": (GET + (b"A: " + b"b" * 7000 + b"\r\n") * 5 + b"\r\n", 431, "over 32768 bytes"),
    "a long body": (UPLOAD + b"Content-Length: 65537\r\n\r\n" + b" " * 65537, 413, "over 65536 bytes"),
    "a body without end": (UPLOAD + b"Content-Length: %d\r\n\r\n" % (9 * MIB) + b" " * 9 * MIB, 413, "65536 bytes"),
    "another method": (b"BREW /livez" + END, 400, "No HTTP/1.1 request: "),
}


@pytest.mark.parametrize(("request_", "status", "detail"), PASSED_ON.values(), ids=PASSED_ON.keys())
async def test_what_is_over_a_limit_of_the_service_is_refused_by_the_service(
    door: Door, request_: bytes, status: int, detail: str
) -> None:
    answer = await ask(door.payments, request_)
    assert answer.status == status
    assert detail in answer.detail()


ANSWERED = {
    "the longest headers": GET + (b"A: " + b"b" * 8000 + b"\r\n") * 4 + b"\r\n",
    "many headers": GET + b"A: b\r\n" * 98 + b"\r\n",  # and the client's address
    "an unknown upgrade": GET + b"Upgrade: spdy\r\nConnection: Upgrade\r\n\r\n",
    "the longest body": UPLOAD + b"Content-Length: 65536\r\n\r\n" + b" " * 65536,
    "chunks": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_", ANSWERED.values(), ids=ANSWERED.keys())
async def test_what_is_within_the_limits_of_the_service_is_answered(door: Door, request_: bytes) -> None:
    assert (await ask(door.payments, request_)).status == 200


async def test_a_body_is_sent_after_the_leave_to_send_it(door: Door) -> None:
    async with connected(door.payments) as line:
        await line.send(UPLOAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert (await line.answer()).status == 100
        await line.send(b"abc")
        answer = await line.answer()
    assert (answer.status, answer.body) == (200, b"3")


# --- what HAProxy answers itself


@pytest.mark.parametrize(("path", "status"), [("/breaks-off", 502), ("/is-silent", 504)])
async def test_an_order_that_may_have_been_taken_is_not_sent_again(door: Door, path: str, status: int) -> None:
    answer = await ask(door.orders, b"POST %s HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n" % (path.encode(), HOST))
    assert (answer.status, "it is unknown whether this was done" in answer.detail()) == (status, True)
    assert sum(replica.paths.count(path) for replica in door.replicas) == 1


async def test_a_service_without_a_replica_is_a_problem(door: Door) -> None:
    answer = await ask(door.notifications, b"GET /" + END)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "Nothing was done" in answer.detail()


async def test_a_body_that_does_not_come_to_its_end_never_reaches_the_service(door: Door) -> None:
    before = await door.metric("haproxy_backend_sessions_total", "payment_service_ready")
    async with connected(door.payments) as line:
        await line.send(UPLOAD + b"Content-Length: 9\r\n\r\n{")
        answer = await line.answer()
        assert (answer.status, answer.detail()) == (408, "The request was not whole after 20 s")
        assert await line.is_closed()
    assert await door.metric("haproxy_backend_sessions_total", "payment_service_ready") == before


REFUSED = {
    "a head without end": (GET + b"A: b", 408),
    "bytes that are no request": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "two lengths": (UPLOAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "headers past all limits": (GET + (b"A: " + b"b" * 8000 + b"\r\n") * 7 + b"\r\n", 400),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_head_that_is_none_is_refused(door: Door, sent: bytes, status: int) -> None:
    """With our words only from the version on that has haproxy/haproxy#3032 mended, 3.0.11 has not."""
    async with connected(door.payments) as line:
        await line.send(sent)
        assert (await line.answer()).status == status
        assert await line.is_closed()


async def test_a_client_that_does_not_read_is_cut_off(door: Door) -> None:
    async with connected(door.payments) as line:
        line.stop_reading()
        await line.send(b"GET /endless" + END)
        await eventually(lambda: streams, expecting="the stream to have begun")

        await eventually(lambda: not streams, expecting="the stream to be over")


# --- for operators


async def test_operators_see_statistics_and_whether_each_service_was_found(door: Door) -> None:
    assert b"Statistics Report" in (await ask(door.statistics, b"GET /" + END)).body
    assert await door.metric("haproxy_frontend_http_requests_total", "order_service") > 0

    assert (await ask(door.statistics, b"GET /readyz" + END)).status == 503
    others = set(SERVICES) - door.names.of.keys()
    door.names.of |= {service: ["127.0.0.9"] for service in others}

    async def all_found() -> bool:
        return (await ask(door.statistics, b"GET /readyz" + END)).status == 200

    await eventually(all_found, expecting="every service to be found")
    for service in others:
        del door.names.of[service]


def test_its_limits_agree_with_those_of_the_services() -> None:
    limits, text = Limits(), CONFIGURATION.read_text()
    (size,), (headers,), (connections,) = (
        re.findall(rf"{name} (\d+)", text) for name in ("bufsize", "http.maxhdr", "rise 1 maxconn")
    )
    separators = TARGET_SEPARATORS + limits.headers * HEADER_SEPARATORS
    kept_for_changes = 1024
    assert int(size) - kept_for_changes > limits.target_bytes + limits.headers_bytes + separators
    assert int(headers) > limits.headers + 1
    assert int(connections) < 2000  # what a service takes where files are plenty
    assert timeout_of("http-request") <= limits.request_seconds
    assert timeout_of("http-keep-alive") < limits.idle_seconds
    assert timeout_of("client") == limits.unread_seconds
    assert timeout_of("server") >= 3 * KEEP_ALIVE_SECONDS
    problems = re.findall(r"http-error status (\d+) content-type application/problem\+json string '(.*)'", text)
    assert [json.loads(problem)["status"] for _, problem in problems] == [int(status) for status, _ in problems]

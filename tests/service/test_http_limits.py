"""What a service takes of a client: so much, for so long, and never more memory than that."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from control_room.children import end, spawn
from control_room.ports import free_ports
from shared.settings import BrokerSettings
from tests.raw_http import Answer, Closed, Line, ask, connected
from tests.service.process import RunningService, running
from tests.support import eventually

MIB = 1024 * 1024
HOST = b"Host: here\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
POST = b"POST /orders HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"customer_email":"ada@example.com","items":[{"sku":"cola","quantity":1}]}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
H2C = POST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
A_CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@pytest_asyncio.fixture(scope="module")
async def service(directory: Path) -> AsyncIterator[RunningService]:
    """The order service, without a broker."""
    nobody = BrokerSettings(rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/")
    async with running("order_service", nobody, directory, until="/livez") as service:
        yield service


@pytest.fixture
def port(service: RunningService) -> int:
    port = service.http.base_url.port
    assert port is not None
    return port


@asynccontextmanager
async def limited(directory: Path, **limits: Any) -> AsyncIterator[tuple[int, Path]]:
    """Our server with other limits: its port and its log."""
    (port,) = free_ports(1)
    log = directory / f"limited-{port}.log"
    command = [sys.executable, "-m", "tests.limited_server", str(port), json.dumps(limits)]
    process = await spawn(command, os.environ, log)
    try:
        await eventually(lambda: answers(port), 30, f"the server; its log: {log}")
        yield port, log
    finally:
        await end(process, 5)


async def answers(port: int) -> bool:
    try:
        return (await ask(port, GET + b"Connection: close\r\n\r\n")).status == 200
    except OSError:
        return False


REFUSED = {
    "a long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a long query": (b"GET /orders?limit=" + b"1" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a long header": (GET + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "a long header name": (GET + b"a" * 9000 + b": a\r\n\r\n", 431),
    "a long cookie": (GET + b"Cookie: " + b"a=b; " * 2000 + b"\r\n\r\n", 431),
    "many headers": (GET + b"A: b\r\n" * 100 + b"\r\n", 431),
    "headers long together": (GET + (b"A: " + b"b" * 7000 + b"\r\n") * 5 + b"\r\n", 431),
    "many headers of a POST": (POST + b"A: b\r\n" * 200 + LENGTH + BODY, 431),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (GET + HOST + b"\r\n", 400),
    "a host that is none": (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a host in half a bracket": (b"GET /livez HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    "a port that is none": (b"GET /livez HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "another version": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "a version of old": (b"GET /livez HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "another method": (b"BREW /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a proxy's request": (b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "bytes in the path": (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a NUL in a header": (GET + b"A: b\0c\r\n\r\n", 400),
    "a CR in a header": (GET + b"A: b\rc\r\n\r\n", 400),
    "a folded header": (GET + b"A: b\r\n c\r\n\r\n", 400),
    "a blank before the colon": (GET + b"A : b\r\n\r\n", 400),
    "bare line feeds": (b"GET /livez HTTP/1.1\nHost: here\n\n", 400),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a length with a sign": (POST + b"Content-Length: +74\r\n\r\n" + BODY, 400),
    "a length in hex": (POST + b"Content-Length: 0x4a\r\n\r\n" + BODY, 400),
    "an endless length": (POST + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", 400),
    "the largest length": (POST + b"Content-Length: 18446744073709551615\r\n\r\n", 413),
    "two lengths": (POST + b"Content-Length: 5\r\n" + LENGTH + BODY, 400),
    "one length twice": (POST + LENGTH[:-2] + LENGTH + BODY, 400),
    "a list of lengths": (POST + b"Content-Length: 74, 74\r\n\r\n" + BODY, 400),
    "a length and chunks": (POST + b"Transfer-Encoding: chunked\r\n" + LENGTH + BODY, 400),
    "chunks and a length": (POST + LENGTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another transfer coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "nearly chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", 400),
    "a chunk of no size": (CHUNKED + b"zz\r\n", 400),
    "a chunk of every size": (CHUNKED + b"f" * 17 + b"\r\n", 400),
    "a chunk that is longer": (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "a body that is longer, later": (CHUNKED + A_CHUNK + b"nonsense\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_request_gets_a_problem_and_the_connection_ends(
    port: int, request_: bytes, status: int
) -> None:
    async with connected(port) as line:
        await line.send(request_)
        answer = await line.answer()
        assert answer.status == status, answer
        assert answer.problem()["detail"]
        assert answer.headers["connection"] == "close"
        assert await line.is_closed()


ANSWERED = {
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "an absolute target": (b"GET http://elsewhere/livez HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "an address as host": (b"GET /livez HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
    "a host of a compose file": (b"GET /livez HTTP/1.1\r\nHost: order_service:8000\r\n\r\n", 200),
    "an empty host": (b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 200),
    "blank lines first": (b"\r\n\r\n" + GET + b"\r\n", 200),
    "as much as may be": (GET + (b"A: " + b"b" * 8000 + b"\r\n") * 4 + b"\r\n", 200),
    "as many as may be": (GET + b"A: b\r\n" * 99 + b"\r\n", 200),
    "a long path": (b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "junk in percents": (b"GET /orders/%ff%00%zz%c0%af%f0%9f HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "junk in the query": (b"GET /orders?after=%ff%00&limit=%zz&=& HTTP/1.1\r\n" + HOST + b"\r\n", 422),
    "two slashes": (b"GET //elsewhere/livez HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "all of it": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "an unknown upgrade": (GET + b"Upgrade: spdy\r\nConnection: Upgrade\r\n\r\n", 200),
    "a WebSocket": (GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", 200),
    "HTTP/2 with a body": (H2C + LENGTH + BODY, 202),
    "HTTP/2 with chunks": (H2C + b"Transfer-Encoding: chunked\r\n\r\n" + A_CHUNK + b"0\r\n\r\n", 202),
    "chunks": (CHUNKED + A_CHUNK + b"0\r\n\r\n", 202),
    "chunks with extensions and trailers": (CHUNKED + b"%x;a=b\r\n%s\r\n0;c\r\nA: b\r\n\r\n" % (len(BODY), BODY), 202),
    "many trailers": (CHUNKED + A_CHUNK + b"0\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 202),
    "an unknown expectation": (POST + b"Expect: more\r\n" + LENGTH + BODY, 202),
}


@pytest.mark.parametrize(("request_", "status"), ANSWERED.values(), ids=ANSWERED.keys())
async def test_what_is_odd_and_legal_is_answered(port: int, request_: bytes, status: int) -> None:
    assert (await ask(port, request_)).status == status


async def test_a_refusal_of_head_has_no_body(port: int) -> None:
    async with connected(port) as line:
        await line.send(b"HEAD /livez HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n")
        assert (await line.answer("HEAD")).status == 431
        assert await line.is_closed()


ENDLESS = {
    "a header": (GET + b"A: ", b"a" * 65536, 431),
    "a header's name": (GET, b"a" * 65536, 431),
    "headers": (GET, b"A: b\r\n" * 10000, 431),
    "a target": (b"GET /", b"a" * 65536, 414),
    "blank lines": (b"", b"\r\n" * 32768, None),
    "a chunk's extension": (CHUNKED + b"3;", b"a" * 65536, 413),
    "a chunk's size": (CHUNKED, b"0" * 65536, 413),
    "a trailer": (CHUNKED + b"0\r\nA: ", b"a" * 65536, 413),
    "trailers": (CHUNKED + A_CHUNK + b"0\r\n", b"A: b\r\n" * 10000, 413),
    "tiny chunks": (CHUNKED, b"1\r\na\r\n" * 10000, 413),
    "a body that is too long": (POST + b"Content-Length: %d\r\n\r\n" % (100 * MIB), b" " * 65536, 413),
    "a body of another call": (GET + b"Content-Length: 60000\r\n\r\n" + b" " * 60000, GET + b"A: ", 200),
    "the rest after a refusal": (b"BREW\r\n\r\n", b"a" * 65536, 400),
}


@pytest.mark.parametrize(("head", "filling", "status"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_never_ends_takes_no_memory(
    service: RunningService, port: int, head: bytes, filling: bytes, status: int | None
) -> None:
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    async with connected(port) as line:
        pouring = asyncio.create_task(line.pour(head, filling, 100 * MIB))
        if status is not None:
            assert (await line.answer()).status == status
        await pouring
        assert process.memory_info().rss - before < 16 * MIB
    assert (await service.http.get("/livez")).status_code == 200


async def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(port: int) -> None:
    for head in (b"", b"Connection: close\r\n"):
        async with connected(port) as line:
            await line.pour(POST + head + b"Content-Length: %d\r\n\r\n" % (20 * MIB), b" " * 65536, 20 * MIB)
            answer = await line.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_a_client_that_asks_first_is_refused_before_it_sends(port: int) -> None:
    async with connected(port) as line:
        await line.send(POST + b"Expect: 100-continue\r\nContent-Length: 70000\r\n\r\n")
        assert (await line.answer()).status == 413
    async with connected(port) as line:
        await line.send(POST + b"Expect: 100-continue\r\n" + LENGTH)
        assert (await line.answer()).status == 100
        await line.send(BODY)
        assert (await line.answer()).status == 202


async def test_requests_in_one_piece_are_answered_in_turn_and_so_is_what_is_wrong_with_the_last(port: int) -> None:
    async with connected(port) as line:
        await line.send((GET + b"\r\n") * 3 + b"BREW\r\n\r\n" + GET + b"\r\n")
        assert [(await line.answer()).status for _ in range(4)] == [200, 200, 200, 400]
        assert await line.is_closed()
    async with connected(port) as line:
        await line.send((GET + b"\r\n") * 2 + CHUNKED + b"zz\r\n")
        assert [(await line.answer()).status for _ in range(3)] == [200, 200, 400]
        assert await line.is_closed()


async def test_a_body_that_is_longer_than_its_length_is_no_second_order(port: int) -> None:
    async with connected(port) as line:
        await line.send(POST + LENGTH + BODY + BODY)
        assert [(await line.answer()).status for _ in range(2)] == [202, 400]
        assert await line.is_closed()


async def test_requests_that_wait_on_one_connection_are_limited(service: RunningService, port: int) -> None:
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    async with connected(port) as line:
        await line.send((GET + b"\r\n") * 20_000)
        statuses = [(await line.answer()).status for _ in range(102)]
        assert statuses == [200] * 101 + [429]
        assert await line.is_closed()
    assert process.memory_info().rss - before < 16 * MIB


async def test_large_pieces_of_many_requests_are_no_large_header(port: int) -> None:
    request = POST + LENGTH + BODY
    async with connected(port) as line:
        for _ in range(20):
            await line.send(request * 50 + request[:30])
            for _ in range(50):
                assert (await line.answer()).status == 202
            await line.send(request[30:])
            assert (await line.answer()).status == 202


SHORT = {"request_seconds": 1.0, "linger_seconds": 0.3, "unread_seconds": 0.5, "idle_seconds": 1}


@pytest_asyncio.fixture(scope="module")
async def quick(directory: Path) -> AsyncIterator[tuple[int, Path]]:
    """A server whose patience is short."""
    async with limited(directory, **SHORT) as found:
        yield found


async def test_the_body_of_a_request_for_http_2_may_come_later_and_so_may_the_next_request(port: int) -> None:
    async with connected(port) as line:
        await line.send(H2C + b"Expect: 100-continue\r\n" + LENGTH)
        assert (await line.answer()).status == 100
        for part in (BODY[:20], BODY[20:] + H2C[:60], H2C[60:] + LENGTH, BODY + GET + b"\r\n"):
            await line.send(part)
        assert [(await line.answer()).status for _ in range(3)] == [202, 202, 200]


async def test_a_trailer_is_no_header(quick: tuple[int, Path]) -> None:
    head = b"GET /headers HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await ask(quick[0], head + b"0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n")
    assert json.loads(answer.body) == ["host", "transfer-encoding"]


SLOW = {
    "in the method": b"GE",
    "in the target": b"GET /liv",
    "in a header": GET + b"A: b",
    "after a header": GET,
    "before the body": b"POST /length HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n",
    "in the body": b"POST /length HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{",
    "in a chunk": b"POST /length HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nab",
    "in the trailers": b"POST /length HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b",
    "waiting for 100": b"POST /length HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
async def test_a_request_that_does_not_come_to_its_end_is_answered_408(quick: tuple[int, Path], sent: bytes) -> None:
    async with connected(quick[0]) as line:
        await line.send(sent)
        try:
            answer = await line.answer()
            answer = await line.answer() if answer.status == 100 else answer
        except Closed:
            assert sent == b"GE"  # no request yet
            return
        assert answer.status == 408
        assert "1 s" in answer.problem()["detail"]
        assert await line.is_closed()


@pytest.mark.parametrize("filling", [b"A: b\r\n", b"a"], ids=["headers", "bytes"])
async def test_a_client_that_sends_a_little_now_and_then_has_no_longer(quick: tuple[int, Path], filling: bytes) -> None:
    async with connected(quick[0]) as line:
        await line.send(GET)
        answer = asyncio.create_task(line.answer())
        while not answer.done():
            await line.send(filling)
            await asyncio.wait([answer], timeout=0.05)
        assert (await answer).status == 408


@pytest.mark.parametrize("filling", [b"", b"\r\n"], ids=["nothing", "blank lines"])
async def test_a_connection_without_a_request_is_closed(quick: tuple[int, Path], filling: bytes) -> None:
    async with connected(quick[0]) as line:
        await trickle_until_closed(line, filling)


@pytest.mark.parametrize("filling", [b"", b"\r\n"], ids=["nothing", "blank lines"])
async def test_a_connection_without_a_further_request_is_closed(quick: tuple[int, Path], filling: bytes) -> None:
    async with connected(quick[0]) as line:
        await line.send(GET + b"\r\n")
        assert (await line.answer()).status == 200
        await trickle_until_closed(line, filling)


async def trickle_until_closed(line: Line, filling: bytes) -> None:
    closed = asyncio.create_task(line.is_closed())
    while not closed.done():
        await line.send(filling)
        await asyncio.wait([closed], timeout=0.05)
    assert await closed


async def test_a_slow_request_in_good_time_is_answered_and_so_is_the_next(quick: tuple[int, Path]) -> None:
    async with connected(quick[0]) as line:
        for _ in range(12):  # longer together than one may take
            for part in (b"POST /length HTTP/1.1\r\n", HOST, b"Content-Length: 3\r\n\r\n", b"a", b"bc"):
                await line.send(part)
                await asyncio.sleep(0.02)  # so that each part is a piece of its own
            assert (await line.answer()).body == b"3"


async def test_the_rest_of_a_body_that_was_answered_without_it_has_its_time_too(quick: tuple[int, Path]) -> None:
    async with connected(quick[0]) as line:
        await line.send(GET + b"Content-Length: 50\r\n\r\nab")
        assert (await line.answer()).status == 200
        assert await line.is_closed()


async def test_a_client_that_does_not_read_takes_no_memory_and_is_cut_off(quick: tuple[int, Path]) -> None:
    port = quick[0]
    async with connected(port) as line:
        line.stop_reading()
        await line.send(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
        await eventually(lambda: streams(port, 1), expecting="the stream to have begun")

        await eventually(lambda: streams(port, 0), expecting="the stream to be over")


async def test_the_head_of_a_stream_is_not_the_beginning_of_one(quick: tuple[int, Path]) -> None:
    async with connected(quick[0]) as line:
        await line.send(b"HEAD /endless HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /streams HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await line.answer("HEAD")).headers["content-type"] == "application/octet-stream"
        assert (await line.answer()).status == 200
        await eventually(lambda: streams(quick[0], 0), expecting="no stream")


async def streams(port: int, expected: int) -> bool:
    return int((await ask(port, b"GET /streams HTTP/1.1\r\n" + HOST + b"\r\n")).body) == expected


async def test_connections_are_limited_and_those_over_it_are_told(directory: Path) -> None:
    async with limited(directory, connections=3) as (port, _):
        async with connected(port) as first, connected(port), connected(port):
            await first.send(GET + b"\r\n")
            assert (await first.answer()).status == 200
            async with connected(port) as fourth:
                answer: Answer = await fourth.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.problem()
                assert await fourth.is_closed()
            await first.send(GET + b"\r\n")
            assert (await first.answer()).status == 200
        await eventually(lambda: answers(port), expecting="room for others")


async def test_answers_under_way_at_the_end_are_no_errors(directory: Path) -> None:
    async with AsyncExitStack() as client, limited(directory) as (port, log):
        line = await client.enter_async_context(connected(port))  # it is there for longer than the server
        line.stop_reading()
        await line.send(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
        await eventually(lambda: streams(port, 1), expecting="the stream to have begun")
    told = log.read_text()
    assert "Cancel 1 running task" in told
    assert "Traceback" not in told


async def test_a_report_whose_database_is_away_is_a_503_and_one_line(quick: tuple[int, Path]) -> None:
    port, log = quick
    before = len(log.read_text())
    answer = await ask(port, b"GET /audit/0 HTTP/1.1\r\n" + HOST + b"\r\n")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.problem()
    lines = log.read_text()[before:].splitlines()
    assert len(lines) == 1
    assert "connection refused" in lines[0]


@pytest.mark.parametrize("pages", [1, 3])
async def test_a_report_whose_database_goes_away_breaks_off_with_one_line(quick: tuple[int, Path], pages: int) -> None:
    port, log = quick
    before = len(log.read_text())
    async with connected(port) as line:
        await line.send(f"GET /audit/{pages} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        with pytest.raises(Closed):
            await line.answer()
    lines = log.read_text()[before:].splitlines()
    assert len(lines) == 1
    assert "connection refused" in lines[0]


@pytest.mark.parametrize("path", ["/audit/-1", "/bug"])
async def test_an_error_of_ours_is_logged_once(quick: tuple[int, Path], path: str) -> None:
    port, log = quick
    before = len(log.read_text())
    async with connected(port) as line:
        await line.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        try:
            assert (await line.answer()).status == 500
        except Closed:
            assert path == "/audit/-1"  # that had begun
    assert log.read_text()[before:].count("Traceback") == 1

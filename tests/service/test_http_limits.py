"""What a service takes of a client: so much, for so long, and never more memory than that."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from shared.settings import BrokerSettings
from tests.raw_http import (
    A_CHUNK,
    BODY,
    CHUNKED,
    GET,
    H2C,
    HOST,
    LENGTH,
    MIB,
    POST,
    ask,
    connected,
)
from tests.service.process import RunningService, running


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


async def test_the_body_of_a_request_for_http_2_may_come_later_and_so_may_the_next_request(port: int) -> None:
    async with connected(port) as line:
        await line.send(H2C + b"Expect: 100-continue\r\n" + LENGTH)
        assert (await line.answer()).status == 100
        for part in (BODY[:20], BODY[20:] + H2C[:60], H2C[60:] + LENGTH, BODY + GET + b"\r\n"):
            await line.send(part)
        assert [(await line.answer()).status for _ in range(3)] == [202, 202, 200]

"""The limits of a service for what one client sends, and which requests it answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.raw_http import A_CHUNK, BODY, CHUNKED, END, GET, HOST, LENGTH, MIB, POST, ask, connected
from tests.service.process import OPERATOR_TOKEN, RunningService, running_alone

H2C = POST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
EXPECT = b"Expect: 100-continue\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_REQUEST = "No HTTP/1.1 request: "


@pytest_asyncio.fixture(scope="module")
async def service(directory: Path) -> AsyncIterator[RunningService]:
    async with running_alone("order_service", directory) as service:
        yield service


@pytest.fixture
def port(service: RunningService) -> int:
    return service.port


REFUSED = {
    "a long target": (b"GET /" + b"a" * 9000 + END, 414, "over 8192 bytes"),
    "a long query": (b"GET /orders?limit=" + b"1" * 9000 + END, 414, "over 8192 bytes"),
    "a long header": (GET + b"A: " + b"a" * 9000 + b"\r\n\r\n", 431, "The header a is over 8192 bytes"),
    "a long header name": (GET + b"a" * 9000 + b": a\r\n\r\n", 431, "The header aaaaa"),
    "many headers": (GET + b"A: b\r\n" * 100 + b"\r\n", 431, "over 100 headers"),
    "headers long together": (GET + (b"A: " + b"b" * 7000 + b"\r\n") * 5 + b"\r\n", 431, "over 32768 bytes"),
    "many headers of a POST": (POST + b"A: b\r\n" * 200 + LENGTH + BODY, 431, "over 100 headers"),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, "got it 0 times"),
    "two hosts": (GET + HOST + b"\r\n", 400, "got it 2 times"),
    "a host that is none": (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Host: expected a name"),
    "a host in half a bracket": (b"GET /livez HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "Host: expected a name"),
    "a port that is none": (b"GET /livez HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400, "Host: expected a name"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400, NO_REQUEST),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, NO_REQUEST),
    "another version": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 505, "HTTP/2.0: expected"),
    "an old version": (b"GET /livez HTTP/0.9\r\n" + HOST + b"\r\n", 505, "HTTP/0.9: expected"),
    "another method": (b"BREW /livez" + END, 400, NO_REQUEST),
    "a proxy's request": (b"CONNECT example.com:443" + END, 501, "this is no proxy"),
    "bytes in the path": (b"GET /\xff" + END, 400, NO_REQUEST),
    "a NUL in a header": (GET + b"A: b\0c\r\n\r\n", 400, NO_REQUEST),
    "a CR in a header": (GET + b"A: b\rc\r\n\r\n", 400, NO_REQUEST),
    "a folded header": (GET + b"A: b\r\n c\r\n\r\n", 400, NO_REQUEST),
    "a blank before the colon": (GET + b"A : b\r\n\r\n", 400, NO_REQUEST),
    "bare line feeds": (b"GET /livez HTTP/1.1\nHost: here\n\n", 400, NO_REQUEST),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", 400, NO_REQUEST),
    "a length with a sign": (POST + b"Content-Length: +74\r\n\r\n" + BODY, 400, NO_REQUEST),
    "a length in hex": (POST + b"Content-Length: 0x4a\r\n\r\n" + BODY, 400, NO_REQUEST),
    "an endless length": (POST + b"Content-Length: " + b"9" * 50 + b"\r\n\r\n", 400, NO_REQUEST),
    "a byte too much": (POST + b"Content-Length: 65537\r\n\r\n" + b" " * 65537, 413, "over 65536 bytes"),
    "a byte too much in chunks": (CHUNKED + b"10001\r\n" + b" " * 65537, 413, "over 65536 bytes"),
    "too much that asks first": (POST + EXPECT + b"Content-Length: 70000\r\n\r\n", 413, "over 65536 bytes"),
    "the largest length": (POST + b"Content-Length: 18446744073709551615\r\n\r\n", 413, "over 65536 bytes"),
    "two lengths": (POST + b"Content-Length: 5\r\n" + LENGTH + BODY, 400, NO_REQUEST),
    "one length twice": (POST + LENGTH[:-2] + LENGTH + BODY, 400, NO_REQUEST),
    "a list of lengths": (POST + b"Content-Length: 74, 74\r\n\r\n" + BODY, 400, NO_REQUEST),
    "a length and chunks": (POST + b"Transfer-Encoding: chunked\r\n" + LENGTH + BODY, 400, NO_REQUEST),
    "chunks and a length": (POST + LENGTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + LAST_CHUNK, 400, NO_REQUEST),
    "another transfer coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "expected chunked"),
    "nearly chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501, "expected chunked"),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + LAST_CHUNK, 400, NO_REQUEST),
    "a chunk of no size": (CHUNKED + b"zz\r\n", 400, NO_REQUEST),
    "a chunk of every size": (CHUNKED + b"f" * 17 + b"\r\n", 400, NO_REQUEST),
    "a chunk that is longer": (CHUNKED + b"3\r\nabcd\r\n" + LAST_CHUNK, 400, NO_REQUEST),
    "a body that is longer, later": (CHUNKED + A_CHUNK + b"nonsense\r\n\r\n", 400, NO_REQUEST),
}


@pytest.mark.parametrize(("request_", "status", "detail"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_request_gets_a_problem_and_the_connection_ends(
    port: int, request_: bytes, status: int, detail: str
) -> None:
    async with connected(port) as line:
        await line.send(request_)
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert detail in answer.detail()
        assert await line.is_closed()


ANSWERED = {
    "HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200),
    "an absolute target": (b"GET http://elsewhere/livez" + END, 200),
    "an address as host": (b"GET /livez HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
    "a host of a compose file": (b"GET /livez HTTP/1.1\r\nHost: order_service:8000\r\n\r\n", 200),
    "an empty host": (b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 200),
    "blank lines first": (b"\r\n\r\n" + GET + b"\r\n", 200),
    "the longest headers": (GET + (b"A: " + b"b" * 8000 + b"\r\n") * 4 + b"\r\n", 200),
    "the most headers": (GET + b"A: b\r\n" * 99 + b"\r\n", 200),
    "a long path": (b"GET /" + b"a" * 8000 + END, 404),
    "junk in percents": (b"GET /orders/%ff%00%zz%c0%af%f0%9f" + END, 404),
    "junk in the query": (
        b"GET /orders?after=%%ff%%00&limit=%%zz&=& HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"
        % OPERATOR_TOKEN.encode(),
        422,
    ),
    "two slashes": (b"GET //elsewhere/livez" + END, 404),
    "all of it": (b"OPTIONS *" + END, 404),
    "an unknown upgrade": (GET + b"Upgrade: spdy\r\nConnection: Upgrade\r\n\r\n", 200),
    "a WebSocket": (GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", 200),
    "HTTP/2 with a body": (H2C + LENGTH + BODY, 202),
    "HTTP/2 with chunks": (H2C + b"Transfer-Encoding: chunked\r\n\r\n" + A_CHUNK + LAST_CHUNK, 202),
    "chunks": (CHUNKED + A_CHUNK + LAST_CHUNK, 202),
    "chunks with extensions and trailers": (CHUNKED + b"%x;a=b\r\n%s\r\n0;c\r\nA: b\r\n\r\n" % (len(BODY), BODY), 202),
    "many trailers": (CHUNKED + A_CHUNK + b"0\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 202),
    "the longest body": (POST + b"Content-Length: 65536\r\n\r\n" + BODY.ljust(65536), 202),
    "an unknown expectation": (POST + b"Expect: more\r\n" + LENGTH + BODY, 202),
}


@pytest.mark.parametrize(("request_", "status"), ANSWERED.values(), ids=ANSWERED.keys())
async def test_an_odd_and_legal_request_is_answered(port: int, request_: bytes, status: int) -> None:
    assert (await ask(port, request_)).status == status


IN_TURN = {
    "a wrong one behind others": ((GET + b"\r\n") * 3 + b"BREW\r\n\r\n" + GET + b"\r\n", [200, 200, 200, 400]),
    "a wrong body behind others": ((GET + b"\r\n") * 2 + CHUNKED + b"zz\r\n", [200, 200, 400]),
    "a body that is longer than its length": (POST + LENGTH + BODY + BODY, [202, 400]),
    "too many at once": ((GET + b"\r\n") * 20_000, [200] * 101 + [429]),
}


@pytest.mark.parametrize(("requests", "statuses"), IN_TURN.values(), ids=IN_TURN.keys())
async def test_requests_in_one_piece_are_answered_in_turn_until_one_is_refused(
    service: RunningService, requests: bytes, statuses: list[int]
) -> None:
    before = memory_of(service)
    async with connected(service.port) as line:
        await line.send(requests)
        assert [(await line.answer()).status for _ in statuses] == statuses
        assert await line.is_closed()
    assert memory_of(service) - before < 16 * MIB


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
    service: RunningService, head: bytes, filling: bytes, status: int | None
) -> None:
    before = memory_of(service)
    async with connected(service.port) as line:
        sending = asyncio.create_task(line.send_endlessly(head, filling, 100 * MIB))
        if status is not None:
            assert (await line.answer()).status == status
        await sending
        assert memory_of(service) - before < 16 * MIB
    assert (await service.http.get("/livez")).status_code == 200


def memory_of(service: RunningService) -> int:
    return int(psutil.Process(service.process.pid).memory_info().rss)


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
async def test_a_client_that_sends_all_before_it_reads_gets_the_refusal(port: int, header: bytes) -> None:
    async with connected(port) as line:
        head = POST + header + b"Content-Length: %d\r\n\r\n" % (20 * MIB)
        await line.send_endlessly(head, b" " * 65536, 20 * MIB)
        answer = await line.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


PIECES = {
    "a body after the leave to send it": [POST + EXPECT + LENGTH, BODY],
    "a body for HTTP/2": [H2C + EXPECT + LENGTH, BODY[:20], BODY[20:]],
    "two requests for HTTP/2": [H2C + LENGTH, BODY[:20], BODY[20:] + H2C[:60], H2C[60:] + LENGTH, BODY],
    "a long body and the beginning of the next request": [
        POST + b"Content-Length: %d\r\n\r\n" % (60_000 + len(BODY)) + b" " * 50_000,
        b" " * 10_000 + BODY + POST[:30],
        POST[30:] + LENGTH + BODY,
    ],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
async def test_a_request_may_come_in_pieces_beside_others(port: int, pieces: list[bytes]) -> None:
    expected = b"".join(pieces).count(BODY)
    async with connected(port) as line:
        for piece in pieces:
            await line.send(piece)
            for _ in range(piece.count(EXPECT)):
                assert (await line.answer()).status == 100
        assert [(await line.answer()).status for _ in range(expected)] == [202] * expected


async def test_large_pieces_of_many_requests_are_no_large_header(port: int) -> None:
    request = POST + LENGTH + BODY
    async with connected(port) as line:
        for _ in range(20):
            await line.send(request * 50 + request[:30])
            assert [(await line.answer()).status for _ in range(50)] == [202] * 50
            await line.send(request[30:])
            assert (await line.answer()).status == 202

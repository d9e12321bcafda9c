"""How long a client may take for its request, and for reading the answer; and how many clients there may be."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.raw_http import (
    GET,
    HOST,
    Answer,
    Closed,
    Line,
    ask,
    connected,
)
from tests.service.limited import answers, limited
from tests.support import eventually


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

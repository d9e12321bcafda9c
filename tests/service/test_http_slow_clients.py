"""The server with short limits: slow clients, many clients, and failures of our own behind a call."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.raw_http import END, GET, HOST, Closed, Line, ask, connected
from tests.service.limited import SHORT, limited, streams
from tests.support import eventually

UPLOAD = b"POST /length HTTP/1.1\r\n" + HOST
ENDLESS = b"GET /endless" + END


@pytest_asyncio.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    """Of a server with time limits of a second or less."""
    async with limited(**SHORT) as port:
        yield port


async def test_a_trailer_is_no_header(port: int) -> None:
    head = b"GET /headers HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await ask(port, head + b"0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n")
    assert json.loads(answer.body) == ["host", "transfer-encoding"]


SLOW = {
    "in the method": b"GE",
    "in the target": b"GET /liv",
    "in a header": GET + b"A: b",
    "after a header": GET,
    "before the body": UPLOAD + b"Content-Length: 9\r\n\r\n",
    "in the body": UPLOAD + b"Content-Length: 9\r\n\r\n{",
    "in a chunk": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nab",
    "in the trailers": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: b",
    "waiting for 100": UPLOAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
async def test_a_request_that_does_not_come_to_its_end_is_answered_408(port: int, sent: bytes) -> None:
    async with connected(port) as line:
        await line.send(sent)
        if sent == b"GE":  # no request yet
            assert await line.is_closed()
            return
        answer = await line.answer()
        answer = await line.answer() if answer.status == 100 else answer
        assert (answer.status, answer.detail()) == (408, "The request was not whole after 1 s")
        assert await line.is_closed()


@pytest.mark.parametrize("filling", [b"A: b\r\n", b"a"], ids=["headers", "bytes"])
async def test_a_client_that_sends_a_little_now_and_then_has_no_longer(port: int, filling: bytes) -> None:
    async with connected(port) as line:
        await line.send(GET)
        answer = asyncio.create_task(line.answer())
        await send_until(answer, line, filling)
        assert (await answer).status == 408


@pytest.mark.parametrize("filling", [b"", b"\r\n"], ids=["nothing", "blank lines"])
@pytest.mark.parametrize("first", [b"", GET + b"\r\n"], ids=["first", "next"])
async def test_a_connection_without_a_request_is_closed(port: int, first: bytes, filling: bytes) -> None:
    async with connected(port) as line:
        await line.send(first)
        assert not first or (await line.answer()).status == 200
        closed = asyncio.create_task(line.is_closed())
        await send_until(closed, line, filling)
        assert await closed


async def send_until(task: asyncio.Task[object], line: Line, filling: bytes) -> None:
    while not task.done():
        await line.send(filling)
        await asyncio.wait([task], timeout=0.05)


async def test_a_slow_request_in_good_time_is_answered_and_so_is_the_next(port: int) -> None:
    async with connected(port) as line:
        for _ in range(12):  # together longer than one may take
            for part in (b"POST /length HTTP/1.1\r\n", HOST, b"Content-Length: 3\r\n\r\n", b"a", b"bc"):
                await line.send(part)
                await asyncio.sleep(0.02)  # so that each part is a piece of its own
            assert (await line.answer()).body == b"3"


async def test_the_rest_of_a_body_that_was_answered_without_it_has_its_time_too(port: int) -> None:
    async with connected(port) as line:
        await line.send(GET + b"Content-Length: 50\r\n\r\nab")
        assert (await line.answer()).status == 200
        assert await line.is_closed()


async def test_a_client_that_does_not_read_is_cut_off(port: int) -> None:
    async with connected(port) as line:
        line.stop_reading()
        await line.send(ENDLESS)
        await eventually(lambda: streams, expecting="the stream to have begun")

        await eventually(lambda: not streams, expecting="the stream to be over")


async def test_connections_are_limited_and_those_over_the_limit_get_a_problem() -> None:
    async with limited(connections=3) as port:
        async with connected(port) as first, connected(port), connected(port):
            await first.send(GET + b"\r\n")
            assert (await first.answer()).status == 200
            async with connected(port) as fourth:
                answer = await fourth.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert "as many connections as it takes, 3" in answer.detail()
                assert await fourth.is_closed()
            await first.send(GET + b"\r\n")
            assert (await first.answer()).status == 200

        async def has_room() -> bool:
            return (await ask(port, GET + b"Connection: close\r\n\r\n")).status == 200

        await eventually(has_room, expecting="room for others")


async def test_answers_under_way_at_the_end_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncExitStack() as client, limited() as port:
        line = await client.enter_async_context(connected(port))  # it stays for longer than the server
        line.stop_reading()
        await line.send(ENDLESS)
        await eventually(lambda: streams, expecting="the stream to have begun")
    assert "Cancel 1 running task" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("path", "status", "event", "error"),
    [
        ("/audit/0", 503, "http.database_unavailable", "connection refused"),
        ("/audit/1", None, "audit.broken_off", "connection refused"),
        ("/audit/3", None, "audit.broken_off", "connection refused"),
        ("/audit/-1", None, "http.request_failed", "a bug"),
        ("/bug", 500, "http.request_failed", "a bug"),
    ],
)
async def test_a_failure_of_ours_is_seen_by_the_client_and_logged_once(
    port: int, path: str, status: int | None, event: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as entries:
        try:
            answer = await ask(port, b"GET " + path.encode() + END)
            assert (answer.status, answer.headers.get("retry-after")) == (status, "1" if status == 503 else None)
            assert answer.detail()
        except Closed:
            assert status is None  # the answer had begun
    ours = [(entry["event"], str(entry.get("error") or entry["exc_info"])) for entry in entries]
    assert [*ours, *((record.msg, str(record.exc_info[1])) for record in caplog.records if record.exc_info)] == [
        (event, error)
    ]

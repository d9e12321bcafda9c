"""The load generator: on time, over kept-alive connections, and honest about what it waited for."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice

import pytest

from control_room.experiments.load import AnswerLost, Connections, post
from control_room.experiments.traffic import at_their_times, poisson
from tests.support import eventually

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Seen: yes\r\n\r\n{}"
Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request as `reply` does; counts connections and requests."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.url = ""
        self.connections = 0
        self.hung_up = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self._reply(head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.hung_up += 1
            writer.close()


async def at_once(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def in_pieces(_head: bytes, writer: asyncio.StreamWriter) -> None:
    for number in range(0, len(OK), 7):
        writer.write(OK[number : number + 7])
        await writer.drain()
        await asyncio.sleep(0)


async def without_length(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 Accepted\r\n\r\n{}")


async def twice(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)
    await writer.drain()
    asyncio.get_running_loop().call_later(0.02, writer.write, OK)


async def once_a_connection(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK.replace(b"X-Seen: yes", b"Connection: close"))


async def never(_head: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(_head: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


@asynccontextmanager
async def served(reply: Reply) -> AsyncIterator[tuple[Server, Connections]]:
    server = Server(reply)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    connections = Connections(server.url)
    try:
        yield server, connections
    finally:
        connections.close()
        listening.close()


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with served(at_once) as (server, connections):
        request = post(f"{server.url}/orders", b'{"a": 1}', {"Idempotency-Key": '"k"'})
        answers = [await connections.ask(request) for _ in range(5)]

    assert [(answer.status, answer.body) for answer in answers] == [(202, b"{}")] * 5
    assert b"X-Seen: yes" in answers[0].head
    assert server.connections == 1
    assert server.requests == [request] * 5
    assert b'Idempotency-Key: "k"\r\n' in request


async def test_an_answer_in_pieces_is_put_together() -> None:
    async with served(in_pieces) as (server, connections):
        answers = [await connections.ask(post(server.url, b"", {})) for _ in range(3)]

    assert [(answer.status, answer.body) for answer in answers] == [(202, b"{}")] * 3
    assert server.connections == 1


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    async with served(twice) as (server, connections):
        await connections.ask(post(server.url, b"", {}))
        await eventually(lambda: server.hung_up == 1, 2, "the connection to be closed")
        await connections.ask(post(server.url, b"", {}))

    assert server.connections == 2


async def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    async with served(once_a_connection) as (server, connections):
        answers = [await connections.ask(post(server.url, b"", {})) for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 202]
    assert server.connections == 2


async def test_an_answer_that_does_not_say_its_length_is_an_answer_lost() -> None:
    async with served(without_length) as (server, connections):
        with pytest.raises(AnswerLost, match="length"):
            await connections.ask(post(server.url, b"", {}))


async def test_no_answer_in_time_is_an_answer_lost() -> None:
    async with served(never) as (server, connections):
        with pytest.raises(AnswerLost):
            await connections.ask(post(server.url, b"", {}), timeout_seconds=0.1)


async def test_a_server_that_hangs_up_is_an_answer_lost() -> None:
    async with served(hang_up) as (server, connections):
        with pytest.raises(AnswerLost):
            await connections.ask(post(server.url, b"", {}))


async def test_a_server_that_is_away_is_an_answer_lost() -> None:
    async with served(at_once) as (server, _):
        pass
    with pytest.raises(AnswerLost):
        await Connections(server.url).ask(post(server.url, b"", {}))


async def test_a_slow_answer_holds_nobody_up() -> None:
    started: list[float] = []

    async def start(_index: int, due: float) -> None:
        started.append(time.monotonic() - due)
        await asyncio.sleep(0.3)

    began = time.monotonic()
    await at_their_times([0.01 * number for number in range(20)], start)

    assert len(started) == 20
    assert min(started) >= 0
    assert time.monotonic() - began < 2  # one after the other would take 6 s


def test_customers_come_at_the_rate_that_was_asked_for_and_the_same_each_time() -> None:
    times = list(islice(poisson(50, random.Random(3)), 10_000))

    assert times == list(islice(poisson(50, random.Random(3)), 10_000))
    assert times == sorted(times)
    assert 190 < times[-1] < 210

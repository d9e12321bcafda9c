"""Load: on time, over kept-alive connections, every answer counted once."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.load.closed import run_load
from control_room.experiments import load
from control_room.experiments.chaos.customers import CANCELLATIONS, JOURNAL, Cancellations, SteadyCustomers
from control_room.experiments.chaos.watch import OpenOrders
from control_room.experiments.load import AnswerLost, Connections, post
from control_room.experiments.traffic import Customers, Unexpected, at_their_times, poisson
from tests.support import eventually

ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\nX-Seen: yes\r\n\r\n{"order_id":"1"}'
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request as `reply` does; counts connections, requests and how many were under way at once."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.url = ""
        self.connections = self.closed = self.under_way = self.most_under_way = 0
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                await asyncio.sleep(0.001)
                self.under_way -= 1
                await self._reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            writer.close()


def answering(*answers: bytes) -> Reply:
    """These answers in turn; the last one again and again."""
    left = list(answers)

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return reply


accepting = answering(ACCEPTED)


async def in_pieces(writer: asyncio.StreamWriter) -> None:
    for number in range(0, len(ACCEPTED), 7):
        writer.write(ACCEPTED[number : number + 7])
        await writer.drain()
        await asyncio.sleep(0)


async def twice(writer: asyncio.StreamWriter) -> None:
    writer.write(ACCEPTED)
    await writer.drain()
    asyncio.get_running_loop().call_later(0.02, writer.write, ACCEPTED)


async def never(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


@asynccontextmanager
async def served(reply: Reply = accepting) -> AsyncIterator[tuple[Server, Connections]]:
    server = Server(reply)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    connections = Connections(server.url)
    try:
        yield server, connections
    finally:
        connections.close()
        listening.close()


@pytest.mark.parametrize("reply", [accepting, in_pieces])
async def test_requests_one_after_the_other_share_a_connection(reply: Reply) -> None:
    async with served(reply) as (server, connections):
        request = post(f"{server.url}/orders", b'{"a": 1}', {"Idempotency-Key": '"k"'})
        answers = [await connections.ask(request) for _ in range(5)]

    assert [(answer.status, answer.body) for answer in answers] == [(202, b'{"order_id":"1"}')] * 5
    assert b"X-Seen: yes" in answers[0].head
    assert server.connections == 1
    assert server.requests == [request] * 5
    assert b'Idempotency-Key: "k"\r\n' in request


async def test_a_connection_is_not_used_after_a_time_at_which_the_server_may_close_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "IDLE_SECONDS", 0.0)
    async with served() as (server, connections):
        for _ in range(3):
            await connections.ask(post(server.url, b"", {}))
        await eventually(lambda: server.closed == 2, 2, "the connections before to be closed")
    assert server.connections == 3


@pytest.mark.parametrize("reply", [twice, answering(ACCEPTED.replace(b"X-Seen: yes", b"Connection: close"))])
async def test_after_an_answer_too_many_or_the_last_one_a_connection_is_not_used_again(reply: Reply) -> None:
    async with served(reply) as (server, connections):
        first = await connections.ask(post(server.url, b"", {}))
        await eventually(lambda: server.closed == 1, 2, "the connection to be closed")
        second = await connections.ask(post(server.url, b"", {}))

    assert (first.status, second.status, server.connections) == (202, 202, 2)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answering(b"HTTP/1.1 202 Accepted\r\n\r\n{}"), "length"),
        (answering(b"SSH-2.0-server\r\n\r\n"), "no HTTP answer"),
        (answering(ACCEPTED + b"more"), "longer than it says"),
        (never, "TimeoutError"),
        (hang_up, "closed"),
    ],
)
async def test_without_a_whole_answer_it_is_lost(reply: Reply, why: str) -> None:
    async with served(reply) as (server, connections):
        with pytest.raises(AnswerLost, match=why):
            await connections.ask(post(server.url, b"", {}), timeout_seconds=0.3)


async def test_a_server_that_is_away_is_an_answer_lost() -> None:
    async with served() as (server, _):
        pass
    with pytest.raises(AnswerLost):
        await Connections(server.url).ask(post(server.url, b"", {}))


async def test_a_slow_answer_delays_no_other_order() -> None:
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


async def test_customers_count_what_they_are_answered() -> None:
    async with served(answering(ACCEPTED, UNAVAILABLE)) as (server, _):
        with Customers(server.url) as customers:
            placed = await customers.place(customers.request({}))
            with pytest.raises(Unexpected, match="503 busy"):
                await customers.place(customers.request({}))

    assert placed.order_id == "1"
    assert (customers.tally.placed, customers.tally.accepted) == (2, 1)
    assert customers.tally.refused == {"503 busy": 1}
    assert customers.report().latency_seconds["max"] == placed.answered_seconds


async def test_customers_repeat_a_request_that_failed_for_the_moment_with_the_same_key() -> None:
    replayed = ACCEPTED.replace(b"X-Seen: yes", b"Idempotent-Replayed: true")
    async with served(answering(UNAVAILABLE, replayed)) as (server, _):
        with Customers(server.url, repeat_seconds=10) as customers:
            await customers.place(customers.request({}, "key"))

    assert len(server.requests) == 2
    assert len(set(server.requests)) == 1
    tally = customers.tally
    assert (tally.accepted, tally.repeated, tally.replayed, tally.refused) == (1, 1, 1, {})


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


CANCELLED = answer(202, b'{"order_id":"1","status":"cancelling"}')


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([CANCELLED], Cancellations(1, 1)),
        ([UNAVAILABLE, CANCELLED], Cancellations(1, 1, repeated=1)),
        ([answer(409, b"declined")], Cancellations(1, too_late=["1"])),
        ([answer(404, b"unknown")], Cancellations(1, refused={"404 unknown": 1})),
        ([answer(202, b'{"status":"paid"}')], Cancellations(1, refused={'202 {"status":"paid"}': 1})),
    ],
    ids=["accepted", "repeated", "too late", "unknown", "not cancelled"],
)
async def test_a_customer_who_cancels_judges_the_answer(
    answers: list[bytes], seen: Cancellations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_room.experiments.chaos.customers.poisson", lambda *_: [0.0])
    monkeypatch.setattr("control_room.experiments.chaos.customers.LATEST_REGRET_SECONDS", 0.0)
    orders = OpenOrders()
    async with served(answering(ACCEPTED, *answers)) as (server, _):
        customers = SteadyCustomers(server.url, 1.0, 1, tmp_path, orders, cancelling=1.0)
        await customers.order_until_stopped()

    assert customers.cancellations == seen
    assert server.requests[-1].startswith(b"POST /orders/1/cancel HTTP/1.1\r\n")
    assert (tmp_path / JOURNAL).read_text() == "1\n"
    assert (tmp_path / CANCELLATIONS).read_text() == "1\n" * seen.accepted
    orders.see("1", "confirmed")
    assert len(orders) == seen.accepted  # it is over only once it is taken back


@pytest.mark.parametrize(("reply", "accepted"), [(in_pieces, 100), (answering(UNAVAILABLE), 0)])
async def test_a_closed_load_places_exactly_as_many_orders_as_asked_for(reply: Reply, accepted: int) -> None:
    async with served(reply) as (server, _):
        result = await run_load(server.url, connections=8, warm_up_seconds=0, seconds=0, orders=100)

    assert (len(server.requests), server.most_under_way) == (100, 8)
    assert (result["accepted"], result["refused"]) == (accepted, 100 - accepted)
    assert accepted or "503" in str(result["first_refusal"])


async def test_a_closed_load_does_not_count_its_warm_up() -> None:
    async with served() as (server, _):
        result = await run_load(server.url, connections=4, warm_up_seconds=0.3, seconds=0.3, orders=0)

    assert result["accepted"] == len(server.requests)
    assert 0 < int(str(result["answered"])) < 0.8 * len(server.requests)

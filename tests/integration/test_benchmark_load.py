"""The closed load: as many requests under way as there are connections, and every answer counted once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.load.closed import run_load

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


class Shop:
    """Answers every request with what `answer` gives; counts them, and how many were under way at once."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self.url = ""
        self.requests = 0
        self.under_way = 0
        self.most_under_way = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                await self._serve_one(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        first, rest = self._answer()[:20], self._answer()[20:]
        writer.write(first)  # in two pieces, as the network may deliver it
        await writer.drain()
        writer.write(rest)


@asynccontextmanager
async def open_shop(answer: Callable[[], bytes] = lambda: ACCEPTED) -> AsyncIterator[Shop]:
    shop = Shop(answer)
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
    shop.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield shop
    finally:
        server.close()


async def test_a_number_of_orders_is_placed_exactly() -> None:
    async with open_shop() as shop:
        seen = await run_load(shop.url, connections=8, warm_up_seconds=0, seconds=0, orders=100)

    assert seen["accepted"] == shop.requests == 100
    assert shop.most_under_way == 8


async def test_the_warm_up_is_not_counted() -> None:
    async with open_shop() as shop:
        seen = await run_load(shop.url, connections=4, warm_up_seconds=0.3, seconds=0.3, orders=0)

    assert seen["accepted"] == shop.requests
    assert 0 < int(str(seen["answered"])) < 0.8 * shop.requests


async def test_an_answer_that_is_no_202_is_a_refusal_and_is_told() -> None:
    async with open_shop(lambda: REFUSED) as shop:
        seen = await run_load(shop.url, connections=2, warm_up_seconds=0, seconds=0, orders=6)

    assert (seen["accepted"], seen["refused"]) == (0, 6)
    assert "503" in str(seen["first_refusal"])

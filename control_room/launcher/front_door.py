"""`python -m control_room.launcher.front_door HOST:PORT ...`: one port for all replicas of each service.

Forwards each TCP connection on a port to one replica, chosen at random among the addresses that the host name resolves
to at that moment. It does not parse HTTP: event streams and big bodies pass unchanged.
"""

import asyncio
import contextlib
import random
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from control_room.signals import run_until_signal
from shared.http.address import without_brackets

CONNECT_TIMEOUT_SECONDS = 2.0
CHUNK_BYTES = 64 * 1024
LINGER_SECONDS = 5.0
"""How long a client may go on sending after its last answer: an earlier reset could destroy that answer."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def front_door(host: str, port: int, *, listen_on: tuple[str, int]) -> AsyncIterator[tuple[str, int]]:
    """While the block runs, connections to `listen_on` reach a replica of `host`. Yields where it listens."""

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replica = await _connect(host, port)
            if replica is not None:
                await _join((reader, writer), replica)
        finally:
            writer.close()

    server = await asyncio.start_server(enter, *listen_on, backlog=2048)
    async with server:
        yield server.sockets[0].getsockname()[:2]


async def _connect(host: str, port: int) -> Streams | None:
    """A connection to any replica; None if no replica accepts one."""
    for address in await _replicas(host, port):
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                return await asyncio.open_connection(address, port)
    return None


async def _replicas(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:  # no replica runs
        return []
    addresses = list({str(address[0]) for *_, address in found})
    random.shuffle(addresses)
    return addresses


async def _join(client: Streams, replica: Streams) -> None:
    """Carry bytes both ways until the replica has sent its last one."""
    asking = asyncio.create_task(_carry(client[0], replica[1]))
    try:
        await _carry(replica[0], client[1])
        await asyncio.wait([asking], timeout=LINGER_SECONDS)
    finally:
        asking.cancel()
        replica[1].close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Carry bytes until the source ends or either side breaks; then end the target's stream."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
    with contextlib.suppress(OSError):
        target.write_eof()


async def _serve(services: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        for service in services:
            host, _, port = service.rpartition(":")
            listen_on = ("0.0.0.0", int(port))  # noqa: S104 - in a container; what is published is not decided here
            await stack.enter_async_context(front_door(without_brackets(host), int(port), listen_on=listen_on))
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_until_signal(_serve(sys.argv[1:]))

"""The front door of the compose file: what goes in comes out at one of the replicas, and the answer comes back."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control_room.launcher import front_door as module
from control_room.launcher.front_door import front_door
from control_room.launcher.ports import free_ports

ANYWHERE = ("127.0.0.1", 0)
A_LOT = bytes(5_000_000)


@asynccontextmanager
async def replica(address: str, port: int) -> AsyncIterator[None]:
    """Answers each connection, once it has been told everything, with its address and what it was told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(address.encode() + await reader.read())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, port)
    async with server:
        yield


async def ask(where: tuple[str, int], question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*where)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_question_and_its_answer_pass_whole() -> None:
    (port,) = free_ports(1)
    async with replica("127.0.0.1", port), front_door("127.0.0.1", port, listen_on=ANYWHERE) as door:
        assert await ask(door, A_LOT) == b"127.0.0.1" + A_LOT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers at every address of 127.0.0.0/8")
async def test_connections_go_to_all_replicas_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]  # nothing listens on the third
    (port,) = free_ports(1)

    async def turn_about(_host: str, _port: int) -> list[str]:
        addresses.append(addresses.pop(0))
        return addresses

    monkeypatch.setattr(module, "_replicas", turn_about)
    async with (
        replica("127.0.0.1", port),
        replica("127.0.0.2", port),
        front_door("replicas", port, listen_on=ANYWHERE) as door,
    ):
        answers = [await ask(door, b"") for _ in range(6)]
    assert set(answers) == {b"127.0.0.1", b"127.0.0.2"}


async def test_a_client_that_is_still_sending_gets_the_answer_that_ends_its_connection() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"too much")
        writer.write_eof()
        while await reader.read(65536):
            pass
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with front_door("127.0.0.1", port, listen_on=ANYWHERE) as door:
            assert await ask(door, A_LOT) == b"too much"


async def test_without_a_replica_the_connection_is_closed() -> None:
    (port,) = free_ports(1)
    async with front_door("127.0.0.1", port, listen_on=ANYWHERE) as door:
        assert await ask(door, b"") == b""
    async with front_door("no-such-service.invalid", port, listen_on=ANYWHERE) as door:
        assert await ask(door, b"") == b""

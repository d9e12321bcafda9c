"""Redis, with every write on disk before it answers (`appendonly yes`, `appendfsync always`)."""

import asyncio
import importlib.util
import os
import shutil
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from control_room.experiments.lab import LabFailed
from control_room.experiments.lab.record import KINDS
from control_room.experiments.lab.systems.rabbitmq import number_in
from control_room.experiments.lab.ways import GROUP, Way
from control_room.launcher.children import freeze, kill, spawn, tail
from control_room.launcher.ports import free_ports
from shared.topology import dead_queue
from shared.waiting import poll

SERVERS = ("redis-server", "valkey-server")
READING = ("xread", "xautoclaim", "xack", "rpop")
MANY = 1_000_000
START_WITHIN_SECONDS, LOOK_SECONDS = 15.0, 0.05


def missing() -> str:
    """What is not installed here, and how to install it; empty if nothing is missing."""
    if importlib.util.find_spec("redis") is None:
        return "Python's client of Redis is not installed: in the clone, .venv/bin/pip install -e '.[lab]'"
    if _server() is None:
        return f"neither {' nor '.join(SERVERS)} is installed: apt-get install redis-server, or brew install redis"
    return ""


def errors() -> tuple[type[Exception], ...]:
    """What the client raises. It must be installed."""
    from redis import RedisError  # noqa: PLC0415 - an extra

    return (RedisError,)


def _server() -> str | None:
    return next(filter(None, map(shutil.which, SERVERS)), None)


class Redis:
    """A private server. Its methods also raise `errors()`."""

    is_safe_after_seconds = 0.0
    gives_ahead = True
    give_up_seconds = 4.0

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self._folder, self._log = folder / "redis", folder / "redis.log"
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._client: Any = None
        self._server: Process | None = None

    async def __aenter__(self) -> Self:
        self._folder.mkdir()
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    @property
    def pid(self) -> int:
        return self._server.pid if self._server else 0

    def freeze(self) -> None:
        if self._server is not None:
            freeze(self._server)

    async def restart(self) -> None:
        await self._stop()
        await self._start()

    async def queues_of(self, way: Way) -> Sequence[str]:
        queues = [f"{way.name}.{kind}" for kind in KINDS]
        return [*queues, *map(dead_queue, queues)]

    async def put_rubbish(self, queue: str) -> None:
        if _is_list(queue):
            await self._client.lpush(queue, b"rubbish")
        else:
            await self._client.xadd(queue, {"body": b"rubbish"})

    async def is_consumed(self, queue: str) -> bool:
        """Each process calls its connection by its way and role; it consumes once it has read."""
        name = f"{queue.partition('.')[0]}.consume"
        clients = [client for client in await self._client.client_list() if client["name"] == name]
        return any(client["cmd"].startswith(READING) for client in clients)

    async def kept(self, queue: str) -> int:
        """Of a stream that nobody reads in a group all that it has."""
        if _is_list(queue):
            return int(await self._client.llen(queue))
        if (group := await self._group(queue)) is None:
            return int(await self._client.xlen(queue))
        return int(group["pending"]) + len(await self._new(queue, group))

    async def is_waiting(self, queue: str) -> bool:
        return bool(await self.kept(queue)) if _is_list(queue) or await self._group(queue) else False

    async def left_in(self, queue: str) -> list[int]:
        """Of a stream without a group none: it keeps everything, and gives it to nobody who does not ask for it."""
        if _is_list(queue):
            bodies = await self._client.lrange(queue, 0, -1)
        elif group := await self._group(queue):
            pending = await self._client.xpending_range(queue, GROUP, "-", "+", MANY)
            ids = [each["message_id"] for each in pending]
            given = [entry for each in ids for entry in await self._client.xrange(queue, each, each)]
            bodies = [fields[b"body"] for _, fields in (*given, *await self._new(queue, group))]
        elif queue.endswith(dead_queue("")):
            bodies = [fields[b"body"] for _, fields in await self._client.xrange(queue)]
        else:
            bodies = []
        return [number for body in bodies if (number := number_in(body)) is not None]

    async def _group(self, queue: str) -> dict[str, Any] | None:
        if await self._client.type(queue) != b"stream":
            return None
        groups = await self._client.xinfo_groups(queue)
        return groups[0] if groups else None

    async def _new(self, queue: str, group: dict[str, Any]) -> list[Any]:
        """Entries that the group has given to nobody. After a restart Redis does not know their number (`lag`)."""
        found: list[Any] = await self._client.xrange(queue, b"(" + group["last-delivered-id"], "+")
        return found

    async def _stop(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        if self._server is not None:
            await kill(self._server)

    async def _start(self) -> None:
        from redis.asyncio import Redis as Client  # noqa: PLC0415 - an extra

        options = {
            "port": str(self._port), "bind": "127.0.0.1", "dir": str(self._folder), "save": "", "daemonize": "no",
            "appendonly": "yes", "appendfsync": "always",
        }  # fmt: skip
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._client = Client.from_url(self.url, protocol=2)
        self._server = await spawn([_server() or SERVERS[0], *arguments], os.environ, self._log)
        if not await poll(self._answers, within_seconds=START_WITHIN_SECONDS, every_seconds=LOOK_SECONDS):
            raise LabFailed(f"Redis did not answer within {START_WITHIN_SECONDS:g} s\n{tail(self._log)}")

    async def _answers(self) -> bool:
        if self._server is None or self._server.returncode is not None:
            raise LabFailed(f"Redis did not start\n{tail(self._log)}")
        with suppress(TimeoutError, *errors()):
            async with asyncio.timeout(1.0):
                return bool(await self._client.ping())
        return False


def _is_list(queue: str) -> bool:
    """Redis does not say: a list that is empty is not there."""
    return queue.startswith("redis-list.") and not queue.endswith(dead_queue(""))

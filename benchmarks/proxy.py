"""proxy: what a proxy costs: `accept` of the order service without one, through HAProxy, and through the one before.

HAProxy runs with the configuration of the compose file, with a name server that knows one replica. The proxy before it
was a program of ours that forwarded connections; it is measured with `--before`, where that checkout has it.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.run import place_for_a_while
from benchmarks.stage import MeasurementFailed, Scene
from control_room.launcher.children import end, spawn
from control_room.launcher.ports import free_ports
from shared.waiting import poll
from tests.haproxy import front_door

NAME = "proxy"
ALONE, HAPROXY, BEFORE = "without a proxy", "HAProxy", "the proxy before"
FRONT_DOOR_BEFORE = "control_room/launcher/front_door.py"
RUN_FRONT_DOOR = """
import asyncio, sys
from control_room.launcher.front_door import front_door
async def run(port, own_port):
    async with front_door("127.0.0.1", port, listen_on=("127.0.0.1", own_port)):
        await asyncio.Event().wait()
asyncio.run(run(*map(int, sys.argv[1:])))
"""
READY_SECONDS = 10.0

Way = Callable[[Scene], AbstractAsyncContextManager[str]]


async def measure_round(bench: Bench, round_number: int) -> None:
    """Each way once; each round begins with another one."""
    ways = list(_ways(bench).items())
    first = round_number % len(ways)
    for title, way in ways[first:] + ways[:first]:
        bench.say(f"{NAME}: {title}")
        async with bench.scene(ORDER_RAIL) as scene:
            await scene.start_web()
            async with way(scene) as url:
                load = await place_for_a_while(scene, bench.scale, url)
        bench.add(NAME, title, "rate", "orders/s", load.rate)
        bench.add(NAME, title, "p50", "ms", load.p50_seconds * 1000)
        bench.add(NAME, title, "p99", "ms", load.p99_seconds * 1000)


def _ways(bench: Bench) -> dict[str, Way]:
    ways: dict[str, Way] = {ALONE: _alone}
    if haproxy := shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        ways[HAPROXY] = partial(_haproxy, program=haproxy)
    else:
        bench.say(f"{NAME}: HAProxy is not installed")
    for peer in bench.peers:
        if (peer.directory / FRONT_DOOR_BEFORE).exists():
            ways[BEFORE] = partial(_front_door_before, directory=peer.directory)
    return ways


@asynccontextmanager
async def _alone(scene: Scene) -> AsyncIterator[str]:
    yield scene.url


@asynccontextmanager
async def _haproxy(scene: Scene, program: str) -> AsyncIterator[str]:
    service = scene.contender.web.name
    names, ports = {service: ["127.0.0.1"]}, {service: _port_of(scene)}
    async with front_door(names, ports, scene.directory, haproxy=program) as (own, _):
        yield f"http://127.0.0.1:{own[service]}"


@asynccontextmanager
async def _front_door_before(scene: Scene, directory: Path) -> AsyncIterator[str]:
    (own,) = free_ports(1)
    command = (sys.executable, "-c", RUN_FRONT_DOOR, str(_port_of(scene)), str(own))
    process = await spawn(command, os.environ, scene.directory / "front_door.log", directory)
    try:
        if not await poll(lambda: _listens(own), within_seconds=READY_SECONDS, every_seconds=0.05):
            raise MeasurementFailed(f"{BEFORE} does not listen")
        yield f"http://127.0.0.1:{own}"
    finally:
        await end(process, 5)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _port_of(scene: Scene) -> int:
    return int(scene.url.rpartition(":")[2])

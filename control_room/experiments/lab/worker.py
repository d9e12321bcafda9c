"""`python -m control_room.experiments.lab.worker FOLDER SYSTEM`: starts the processes of all ways.

Each is a copy of this one, which needs no time for imports. A line of standard input, in JSON, is a process to start;
lines of standard output say which process that is, and which has ended. Standard input ends if the lab is killed: then
this process ends the others, and removes the lab's temporary folder.
"""

import asyncio
import importlib
import inspect
import json
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import uvloop

from control_room.experiments.lab.shop import Shop
from control_room.experiments.lab.ways import RABBITMQ, RIGHT, WAYS, SystemName, durable
from control_room.launcher.children import death_pact
from shared.observability import logging

REMOVE_WITHIN_SECONDS, REMOVE_AGAIN_SECONDS = 10.0, 0.1


def main(folder: Path, system: str) -> None:
    logging.configure("lab", "console", sys.stderr)
    modules = {way.name: importlib.import_module(way.module) for way in WAYS.values() if way.system == system}
    signal.signal(signal.SIGCHLD, lambda *_: _tell_ended())
    for line in sys.stdin:
        _start(json.loads(line), modules)
    _clean_up(folder)


def _clean_up(folder: Path) -> None:
    """The lab is gone. Its RabbitMQ dies with it, and may write for another moment."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + REMOVE_WITHIN_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(REMOVE_AGAIN_SECONDS)


def _start(asked: dict[str, Any], modules: dict[str, ModuleType]) -> None:
    """Fork. Its end is told after its start."""
    make_pact = death_pact()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    process = os.fork()
    if process == 0:
        if make_pact:
            make_pact()
        _be(asked, modules)
    _tell(started=asked["ticket"], pid=process)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _be(asked: dict[str, Any], modules: dict[str, ModuleType]) -> None:
    """The new process: it does its part, and never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    status = 1
    try:
        shop = Shop(asked["way"], asked["role"], asked["url"], Path(asked["folder"]), Path(asked["file"]))
        _play(shop, WAYS[shop.way].system, modules)
        status = 0
    except BaseException:  # noqa: BLE001 - its end is told, and the log says why
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _play(shop: Shop, system: SystemName, modules: dict[str, ModuleType]) -> None:
    """What the way has wrong is in its module; all else is as in the right way, or as the queues of a tutorial."""
    module, right = modules[shop.way], modules[RIGHT[system]]
    rest = durable if system == RABBITMQ and shop.role == "declare" and hasattr(module, "consume") else right
    part = getattr(module, shop.role, None) or getattr(rest, shop.role)
    if shop.role == "declare":
        client = importlib.import_module(f"control_room.experiments.lab.{system}_client")
        part(client.connect(shop), shop)
    elif inspect.iscoroutinefunction(part):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(part(shop))
    else:
        part(shop)


def _tell_ended() -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        _tell(ended=process, status=os.waitstatus_to_exitcode(status))


def _tell(**facts: int) -> None:
    with suppress(BrokenPipeError):  # the lab is gone, as the end of standard input is about to say
        os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

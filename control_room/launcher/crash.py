"""`python -m control_room.launcher.crash SERVICE MODULE:ATTRIBUTE FLAG`: runs a service that dies at a call.

It dies as by `kill -9` just before its first call of that function, and creates the file FLAG. Where FLAG exists
already it runs to its end. So the services themselves contain no code for crashes.
"""

import importlib
import os
import runpy
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

DIED = 137
"""The exit status that a shell shows of a process that was killed."""


def crashing(service: str, call: str, flag: Path) -> list[str]:
    """The command that starts a service so."""
    return [sys.executable, "-m", "control_room.launcher.crash", service, call, str(flag)]


def main() -> None:
    service, target, flag = sys.argv[1:]
    if not Path(flag).exists():
        _patch(target, Path(flag))
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


def _patch(call: str, flag: Path) -> None:
    module_name, _, path = call.partition(":")
    owner, _, name = path.rpartition(".")
    module = importlib.import_module(module_name)
    setattr(attrgetter(owner)(module) if owner else module, name, _dying(flag))


def _dying(flag: Path) -> Callable[..., Any]:
    def die(*_arguments: Any, **_named: Any) -> Any:
        flag.touch()
        os._exit(DIED)

    return die


if __name__ == "__main__":
    main()

"""`python -m control_room.experiments.chaos.crash SERVICE MODULE:ATTRIBUTE FLAG`: it dies just before that call.

It dies as by `kill -9` before its first call of the function, and writes the file FLAG; if FLAG is there already, it
runs as ever. So the services themselves carry no crash points.
"""

import importlib
import os
import runpy
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

DIED = 137
"""The exit status, as a shell tells of a process that was killed."""


def main() -> None:
    service, target, flag = sys.argv[1:]
    if not Path(flag).exists():
        _arm(target, Path(flag))
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


def _arm(target: str, flag: Path) -> None:
    module_name, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    setattr(owner, name, _deadly(flag))


def _deadly(flag: Path) -> Callable[..., Any]:
    def die(*_arguments: Any, **_named: Any) -> Any:
        flag.touch()
        os._exit(DIED)

    return die


if __name__ == "__main__":
    main()

"""`python -m tests.crash SERVICE MODULE:ATTRIBUTE before|after FLAG`: the service, dying at that call.

It dies as by `kill -9`, around its first call of the function, and writes the file FLAG; if FLAG is there already, it
runs as ever. So product code carries no crash points.
"""

import importlib
import os
import runpy
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any


def main() -> None:
    service, target, moment, flag = sys.argv[1:]
    if not Path(flag).exists():
        _arm(target, moment, Path(flag))
    sys.argv = [service]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


def _arm(target: str, moment: str, flag: Path) -> None:
    module_name, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module_name))
    setattr(owner, name, _deadly(getattr(owner, name), moment, flag))


def _deadly(function: Callable[..., Any], moment: str, flag: Path) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **named: Any) -> Any:
        if moment == "after":
            function(*arguments, **named)
        flag.touch()
        os._exit(137)

    return wrapper


if __name__ == "__main__":
    main()

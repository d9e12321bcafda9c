"""Child processes that never outlive this one, and how they are ended."""

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
TAIL_LINES = 25
TAIL_BYTES = 16 * 1024


async def spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path | None = None
) -> Process:
    """Start a process whose output is appended to `log`; when this process dies in any way, Linux kills the child.

    The child leads a process group of its own, so that a Ctrl-C at the terminal reaches this process alone.
    Call this from the main thread: Linux ties the child to the life of the thread that started it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            cwd=directory,
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=death_pact(),
        )


async def end(process: Process, grace_seconds: float) -> int:
    """SIGTERM, and SIGKILL after `grace_seconds`; returns the exit status, negative for a signal."""
    signal_group(process, signal.SIGCONT)  # a stopped process would never see the SIGTERM
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(grace_seconds):
            await process.wait()
    return await kill(process)


async def kill(process: Process) -> int:
    """SIGKILL the process and all that is left of its process group."""
    signal_group(process, signal.SIGKILL)
    return await process.wait()


def signal_group(process: Process, number: signal.Signals) -> None:
    """Signal the process and its children; nothing happens where none is left."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says "permission" of a group of zombies
        os.killpg(process.pid, number)


def freeze(process: Process) -> None:
    """SIGSTOP the process and its children. Once this returns, no thread of the process runs any more.

    The signal alone is not enough: on a busy machine its other threads go on until one of them has taken it.
    """
    signal_group(process, signal.SIGSTOP)
    with suppress(ChildProcessError):  # it has ended
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def thaw(process: Process) -> None:
    """SIGCONT, after `freeze`."""
    signal_group(process, signal.SIGCONT)


def death_pact(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """What a new child calls before it becomes its program: it asks Linux for a signal when its parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    set_death_signal = ctypes.CDLL(None).prctl  # looked up here, since the child must not wait for a lock of its parent
    parent = os.getpid()

    def ask() -> None:
        set_death_signal(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request was made
            os._exit(1)

    return ask


def tail(log: Path) -> str:
    """The last 25 lines of a log under a heading with its name, for messages that say why a process did not start."""
    if not log.exists():
        return f"--- {log} was not written"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join((f"--- the end of {log}", *lines))

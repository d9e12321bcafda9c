"""Memory and processor time of a program and of the processes that it has started."""

import psutil


def resident_bytes(pid: int) -> int:
    """Resident bytes of the process, and of its children what is theirs alone: shared pages count once."""
    process = psutil.Process(pid)
    own: int = process.memory_info().rss
    return own + sum(_own_bytes(child) for child in process.children(recursive=True))


def _own_bytes(process: psutil.Process) -> int:
    try:
        bytes_: int = process.memory_full_info().uss
    except psutil.NoSuchProcess:
        return 0
    return bytes_


def busy_percent(seconds: float) -> float:
    """How busy all cores are in these seconds, with this program or others. Blocks meanwhile."""
    return psutil.cpu_percent(seconds)


def processor_seconds(pid: int) -> float:
    """Processor time so far of the process and of its children, those that have ended included."""
    process = psutil.Process(pid)
    return sum(_processor_seconds(each) for each in (process, *process.children(recursive=True)))


def _processor_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(getattr(times, name, 0.0) for name in ("user", "system", "children_user", "children_system")))

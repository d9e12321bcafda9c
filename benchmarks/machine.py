"""What the numbers were measured on."""

import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.contenders import PEERS

PACKAGES = ("order-rail", "fastapi", "starlette", "uvicorn", "pydantic", "sqlalchemy", "pika", "uvloop")
PEER_PACKAGES = ("celery", "dramatiq", "faststream", "repid", "taskiq", "taskiq-aio-pika", "aio-pika")
SYNCS = 200
BLOCK_BYTES = 4096


def describe(directory: Path, rabbitmq_version: str) -> dict[str, Any]:
    """The machine, the versions, and how long `fdatasync` takes in `directory`."""
    installed = PACKAGES + (PEER_PACKAGES if any(peer.is_installed for peer in PEERS) else ())
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "rabbitmq": rabbitmq_version,
        "fdatasync_ms": round(_sync_seconds(directory) * 1000, 3),
        "packages": {name: found for name in installed if (found := _version(name))},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _sync_seconds(directory: Path) -> float:
    """The median time until a block appended to a file is on disk."""
    path, took = directory / "fdatasync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(BLOCK_BYTES))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return median(took)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""The audit of many orders takes little memory; its database needs room on the disk, and gives it back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ORDERS = 50_000
ENOUGH_MEBIBYTES = 90  # the database's cache is 32; in Python's own objects these rows would take 200

FULL_DISK = """
import resource
from benchmarks.audit import fill
from control_room.operations.audit import AuditImpossible, reconciliation

reconciliation.CACHE_KIBIBYTES = 64  # what is beyond goes to disk
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with reconciliation.reconciliation_database(float(2**40)) as database:
        fill(database, 10_000)
except AuditImpossible as error:
    print(error)
"""

# It writes more than is kept in memory, says whether that lies in TMPDIR, and waits to be killed.
LARGE_AUDIT = """
import os, sys
from control_room.operations.audit.reconciliation import CACHE_KIBIBYTES, reconciliation_database

with reconciliation_database(0) as database:
    with database._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(?))", (3 * 1024 * CACHE_KIBIBYTES,))
    files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    lie_there = [path for path in files if os.path.islink(path) and os.environ["TMPDIR"] in os.readlink(path)]
    print("in TMPDIR" if lie_there else "elsewhere", flush=True)
    sys.stdin.read()
"""


def run(*arguments: str) -> str:
    """In a process of its own: memory that a process has had once it keeps."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True, text=True).stdout


@pytest.mark.timeout(60)
def test_fifty_thousand_orders_are_reconciled_in_bounded_memory_and_one_fault_is_found() -> None:
    result: dict[str, Any] = json.loads(run("-m", "benchmarks.audit", str(ORDERS)))

    assert result["orders"] == ORDERS
    (found,) = result["violations"]
    assert found.startswith("captured-equals-total 019366b4-0000-7")
    assert result["grown_by_mebibytes"] < ENOUGH_MEBIBYTES, result


def test_an_audit_without_room_on_the_disk_says_so() -> None:
    output = run("-c", FULL_DISK)

    assert output.startswith("the reconciliation database: "), output
    assert "TMPDIR" in output


def test_an_audit_that_is_killed_leaves_no_temporary_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LARGE_AUDIT], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as audit:  # fmt: skip
        assert audit.stdout is not None
        assert audit.stdout.readline() == "in TMPDIR\n"
        audit.send_signal(signal.SIGKILL)
        audit.wait()
    assert list(tmp_path.iterdir()) == []

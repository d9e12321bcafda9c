"""The audit of many orders takes little memory, however many there are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ORDERS = 50_000
ENOUGH_MEBIBYTES = 90  # the cache of the books is 32; in Python's own objects these rows would take 200


def reconcile(orders: int) -> dict[str, Any]:
    """In a process of its own: memory that a process has had once it keeps."""
    program = [sys.executable, "-m", "benchmarks.audit", str(orders)]
    result: dict[str, Any] = json.loads(subprocess.run(program, cwd=ROOT, capture_output=True, check=True).stdout)
    return result


@pytest.mark.timeout(60)
def test_fifty_thousand_orders_are_reconciled_in_bounded_memory_and_one_fault_is_found() -> None:
    result = reconcile(ORDERS)

    assert result["orders"] == ORDERS
    (found,) = result["violations"]
    assert found.startswith("captured-equals-total 019366b4-0000-7")
    assert result["grown_by_mebibytes"] < ENOUGH_MEBIBYTES, result


FULL_DISK = """
import resource
from benchmarks.audit import fill
from control_room.operations.audit import AuditImpossible, reconciliation
from control_room.operations.audit.reconciliation import books

reconciliation.CACHE_KIBIBYTES = 64  # beyond that, books go to disk
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with books(float(2**40)) as kept:
        fill(kept, 10_000)
except AuditImpossible as error:
    print(error)
"""


def test_where_there_is_no_room_for_the_books_the_audit_says_so() -> None:
    ended = subprocess.run([sys.executable, "-c", FULL_DISK], cwd=ROOT, capture_output=True, check=True, text=True)

    assert ended.stdout.startswith("the audit's own books: "), ended.stdout
    assert "TMPDIR" in ended.stdout

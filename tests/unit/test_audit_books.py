"""The audit's own books: they need room on the disk, and must give it back however the audit ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# More than the books keep in memory; then it says how much of that lies in TMPDIR, and waits to be killed.
AUDIT = """
import os, sys
from control_room.operations.audit.reconciliation import CACHE_KIBIBYTES, books

with books(0) as kept:
    with kept._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(?))", (3 * 1024 * CACHE_KIBIBYTES,))
    files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    lie_there = [path for path in files if os.path.islink(path) and os.environ["TMPDIR"] in os.readlink(path)]
    print("in TMPDIR" if lie_there else "elsewhere", flush=True)
    sys.stdin.read()
"""


def test_an_audit_that_is_killed_leaves_nothing_where_temporary_files_are_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", AUDIT]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as audit:
        assert audit.stdout is not None
        assert audit.stdout.readline() == "in TMPDIR\n"
        audit.send_signal(signal.SIGKILL)
        audit.wait()
    assert list(tmp_path.iterdir()) == []

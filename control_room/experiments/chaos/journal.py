"""The journal: every order that was answered with 202, on disk before it counts as accepted."""

import asyncio
import os
from pathlib import Path
from typing import Self


class Journal:
    """A file with a line for each accepted order: its id and its idempotency key. An async context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __aenter__(self) -> Self:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._file)

    async def record(self, order_id: str, key: str) -> None:
        """Returns once the line is on disk. Raises OSError where it can't be."""
        await asyncio.to_thread(self._append, f"{order_id}\t{key}\n".encode())

    def _append(self, line: bytes) -> None:
        os.write(self._file, line)
        os.fsync(self._file)


def accepted_orders(journal: Path) -> list[str]:
    """The ids of a journal, in the order in which they were accepted. A last line without an end does not count."""
    with journal.open() as file:
        return [line.split("\t")[0] for line in file if line.endswith("\n")]


def write_order_ids(journal: Path, target: Path) -> None:
    """Write the journal's ids alone, one a line, as the audit reads them."""
    target.write_text("".join(f"{order_id}\n" for order_id in accepted_orders(journal)))

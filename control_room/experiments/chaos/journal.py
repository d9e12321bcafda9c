"""The journal: every order that was answered with 202, on disk before it counts as accepted."""

import asyncio
import os
from pathlib import Path


class Journal:
    """A file with the id of each accepted order, one a line, as the audit reads it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    async def record(self, order_id: str) -> None:
        """Returns once the line is on disk. Raises OSError where it can't be."""
        await asyncio.to_thread(self._append, f"{order_id}\n".encode())

    def close(self) -> None:
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        os.fsync(self._file)

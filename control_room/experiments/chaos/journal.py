"""What customers were promised: every order that was answered with 202, on disk before it counts."""

import asyncio
import os
from pathlib import Path
from typing import Self


class Journal:
    """A file with a line for each accepted order: its id and its idempotency key. Use it as an async context manager.

    Lines are made durable in groups, one fsync for all that wait, as the services do it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._writer = asyncio.create_task(self._write(), name="journal")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        os.close(self._file)

    async def record(self, order_id: str, key: str) -> None:
        """Returns once the line is on disk. Raises OSError where it can't be."""
        on_disk: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((f"{order_id}\t{key}\n", on_disk))
        self._work.set()
        await on_disk

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            group, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append, "".join(line for line, _ in group))
            except OSError as error:
                _wake(group, error)
            else:
                _wake(group, None)

    def _append(self, lines: str) -> None:
        os.write(self._file, lines.encode())
        os.fsync(self._file)


def _wake(group: list[tuple[str, "asyncio.Future[None]"]], error: OSError | None) -> None:
    for _, on_disk in group:
        if on_disk.done():  # whoever asked has gone
            continue
        if error is None:
            on_disk.set_result(None)
        else:
            on_disk.set_exception(error)


def accepted_orders(journal: Path) -> list[str]:
    """The ids of a journal, in the order in which they were accepted. A last line without an end does not count."""
    with journal.open() as file:
        return [line.split("\t")[0] for line in file if line.endswith("\n")]


def write_order_ids(journal: Path, target: Path) -> int:
    """The journal's ids alone, one a line, as the audit reads them; how many there are."""
    order_ids = accepted_orders(journal)
    target.write_text("".join(f"{order_id}\n" for order_id in order_ids))
    return len(order_ids)

"""The journal: what customers were promised is on disk before it counts."""

import asyncio
import os
from pathlib import Path

import pytest

from control_room.experiments.chaos.customers import Journal


async def test_what_was_recorded_is_on_disk_one_id_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order_ids = {f"order-{number}" for number in range(100)}
    synced: list[object] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path / "journal")
    await asyncio.gather(*(journal.record(order_id) for order_id in order_ids))
    journal.close()

    assert len(synced) == len(order_ids)
    assert set((tmp_path / "journal").read_text().splitlines()) == order_ids


async def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    journal = Journal(tmp_path / "journal")
    with pytest.raises(OSError, match="no space left"):
        await journal.record("order")
    journal.close()

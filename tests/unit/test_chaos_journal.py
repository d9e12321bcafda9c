"""The journal: what customers were promised is on disk before it counts."""

import asyncio
import os
from pathlib import Path

import pytest

from control_room.experiments.chaos.journal import Journal, accepted_orders, write_order_ids


async def test_what_was_recorded_can_be_read_back(tmp_path: Path) -> None:
    order_ids = [f"order-{number}" for number in range(100)]
    async with Journal(tmp_path / "journal") as journal:
        await journal.record(order_ids[0], "key")
        assert accepted_orders(journal.path) == order_ids[:1]
        await asyncio.gather(*(journal.record(order_id, "key") for order_id in order_ids[1:]))

    assert sorted(accepted_orders(tmp_path / "journal")) == sorted(order_ids)


async def test_an_order_does_not_count_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with Journal(tmp_path / "journal") as journal:
        await journal.record("order", "key")
        assert len(synced) == 1


async def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    async with Journal(tmp_path / "journal") as journal:
        with pytest.raises(OSError, match="no space left"):
            await journal.record("order", "key")


def test_the_audit_reads_one_id_a_line_and_a_line_without_its_end_was_never_promised(tmp_path: Path) -> None:
    journal, target = tmp_path / "journal", tmp_path / "accepted"
    journal.write_text("one\tkey 1\ntwo\tkey 2\ntorn\tke")

    write_order_ids(journal, target)

    assert target.read_text() == "one\ntwo\n"

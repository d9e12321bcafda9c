"""The journal: what customers were promised is on disk before it counts."""

import asyncio
import os
from pathlib import Path

import pytest

from control_room.experiments.chaos.journal import Journal, accepted_orders, write_order_ids
from tests.support import eventually


async def test_what_was_recorded_can_be_read_back_in_order(tmp_path: Path) -> None:
    async with Journal(tmp_path / "journal") as journal:
        for number in range(3):
            await journal.record(f"order-{number}", f"key-{number}")
            assert accepted_orders(journal.path)[-1] == f"order-{number}"

    assert accepted_orders(tmp_path / "journal") == ["order-0", "order-1", "order-2"]


async def test_nothing_counts_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with Journal(tmp_path / "journal") as journal:
        await journal.record("order", "key")
        assert len(synced) == 1


async def test_many_at_once_share_their_way_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    async with Journal(tmp_path / "journal") as journal:
        await asyncio.gather(*(journal.record(f"order-{number}", "key") for number in range(100)))

    assert len(accepted_orders(tmp_path / "journal")) == 100
    assert len(synced) < 10


async def test_a_full_disk_is_told_to_whoever_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: int) -> None:
        raise OSError("no space left on device")

    async with Journal(tmp_path / "journal") as journal:
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space left"):
            await journal.record("order", "key")


async def test_one_who_stops_waiting_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with Journal(tmp_path / "journal") as journal:
        impatient = asyncio.create_task(journal.record("impatient", "key"))
        patient = asyncio.create_task(journal.record("patient", "key"))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        await eventually(lambda: "patient" in accepted_orders(journal.path))


def test_a_line_without_its_end_was_never_promised(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text("whole\tkey\ntorn\tke")

    assert accepted_orders(journal) == ["whole"]


def test_the_audit_reads_one_id_a_line(tmp_path: Path) -> None:
    journal, target = tmp_path / "journal", tmp_path / "accepted"
    journal.write_text("one\tkey 1\ntwo\tkey 2\n")

    assert write_order_ids(journal, target) == 2
    assert target.read_text() == "one\ntwo\n"

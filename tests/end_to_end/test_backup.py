"""A backup of a full rail is restored on an empty machine: every order of it finishes, and nobody is charged twice."""

import shutil
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.launcher.system import System
from shared.testing.faults import frozen
from tests.conftest import Broker
from tests.order_rail import final_audit, launched, order_rail
from tests.postgres import PrivatePostgres
from tests.rail import Rail
from tests.support import eventually

TOKENS = ["tok_visa", "tok_visa", "tok_declined", "tok_timeout"]
CHARGED = 3
"""So many of these tokens are charged."""


class Machine:
    """A run directory, which is not there at first, and empty databases: half of them in it, half on PostgreSQL."""

    def __init__(self, directory: Path, postgres: PrivatePostgres) -> None:
        self.directory = directory
        names = ("ORDER_SERVICE_DATABASE_URL", "PAYMENT_SERVICE_DATABASE_URL")
        self.variables = {name: postgres.create_database() for name in names}

    async def command(self, name: str, *arguments: str) -> str:
        """What `order-rail backup` or `restore` prints."""
        where = ("--run-directory", str(self.directory))
        ended = await order_rail(name, *arguments, *where, **self.variables)
        assert ended.status == 0, ended.output + ended.errors
        return ended.output


@dataclass(frozen=True)
class OldSystem:
    """What became of a system: its backup, the orders in it by what they waited for then, and all that it has charged.

    `later`: accepted after the backup. `journal`: the ids of all.
    """

    machine: Machine
    backup: Path
    journal: Path
    final: list[str]
    paid: list[str]
    placed: list[str]
    cancelling: str
    stalled: str
    later: list[str]
    ledger: list[dict[str, Any]]

    @property
    def in_backup(self) -> list[str]:
        return [*self.final, *self.paid, *self.placed, self.cancelling, self.stalled]


@pytest_asyncio.fixture(scope="module")
async def old(
    broker: Broker, postgres: PrivatePostgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OldSystem]:
    """A system that is gone, but for a backup of it that was made while orders waited at every stage."""
    place = tmp_path_factory.mktemp("old")
    machine, backup, journal = Machine(place / "run", postgres), place / "backup", place / "accepted"
    async with launched(broker, machine.directory, **machine.variables) as system, Rail(system).ready() as rail:
        final = await rail.place_many(TOKENS)
        await rail.all_final()
        stalled = await rail.place("tok_broken")
        await rail.until([stalled], "stalled")
        with frozen(system, "notification_service"):
            paid = await rail.place_many(["tok_visa"] * 4)
            await rail.until(paid, "paid")
            with frozen(system, "payment_service"):
                placed = await rail.place_many(TOKENS * 2)
                cancelling = await rail.place()
                await rail.cancel(cancelling)
                await machine.command("backup", str(backup))
                later = await rail.place_many(TOKENS)
        await rail.cancel(final[0])
        await until_final(rail, rail.accepted, but=stalled)
        ledger = await ledger_of(rail)
        journal.write_text("".join(f"{order_id}\n" for order_id in rail.accepted))
    yield OldSystem(machine, backup, journal, final, paid, placed, cancelling, stalled, later, ledger)


@pytest.mark.parametrize("ledger", ["of the backup", "newer than the rest"])
async def test_a_full_rail_is_restored_and_every_order_of_it_finishes(
    ledger: str, old: OldSystem, broker: Broker, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    new, is_newer = Machine(tmp_path / "run", postgres), ledger == "newer than the rest"
    keep = outlive(old.machine, new) if is_newer else ()

    assert "Restored order_service, payment_service" in await new.command("restore", str(old.backup), *keep)

    async with launched(broker, new.directory, **new.variables) as system, Rail(system).ready() as rail:
        rail.accepted = old.in_backup
        await until_final(rail, old.in_backup, but=old.stalled)
        report = await final_audit(system, journal=old.journal)
        lost = report.after_backup
        assert lost is not None
        assert (lost.orders, lost.charged, lost.cancellations) == (len(old.later), CHARGED * is_newer, int(is_newer))
        assert set(old.later) <= set(lost.examples)
        charges = await ledger_of(rail)
        assert set(Counter(each["order_id"] for each in charges if each["type"] == "charge").values()) == {1}
        assert not is_newer or charges == old.ledger
        assert f"and lost: {len(old.later)} orders, of which" in await said_by_the_audit(system, old.journal)
        statuses = await rail.statuses()
    assert statuses[old.cancelling] == ("refunded" if is_newer else "cancelled")
    assert {statuses[order_id] for order_id in old.paid} == {"confirmed"}


async def until_final(rail: Rail, order_ids: list[str], but: str) -> None:
    async def look() -> bool:
        statuses = await rail.statuses()
        open_orders = {each: statuses[each] for each in order_ids if statuses[each] in ("placed", "paid", "cancelling")}
        assert not open_orders, open_orders
        assert statuses[but] == "stalled"
        return True

    await eventually(look, 60, "every order but one to be final")


async def ledger_of(rail: Rail) -> list[dict[str, Any]]:
    return [row for row in await rail.audit("payment_service") if row["kind"] == "charge"]


def outlive(old: Machine, new: Machine) -> tuple[str, ...]:
    """The ledger is as the old system has left it, as that of a real provider would be."""
    new.directory.mkdir()
    for file in old.directory.glob("gateway.db*"):
        shutil.copy(file, new.directory)
    return ("--keep", "gateway")


async def said_by_the_audit(system: System, journal: Path) -> str:
    """What `order-rail audit` says of the restore, on a system without violations."""
    where = ("--environment-file", str(system.run.environment_file))
    ended = await order_rail("audit", "--settle-seconds", "0", "--journal", str(journal), *where)
    assert ended.status == 0, ended.output + ended.errors
    return next(line for line in ended.output.splitlines() if line.startswith("Restored to"))

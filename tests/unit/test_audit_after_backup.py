"""After a restore the audit names what was accepted after the backup; anything else that is missing is a violation."""

from datetime import datetime, timedelta

import pytest

from control_room.operations.audit.after_backup import AfterBackup
from control_room.operations.audit.auditor import judge
from shared.ids import first_id
from shared.persistence.milestones import RESTORED_AT, RESTORED_TO
from tests.audit_rows import Rows, charge, filled, notification, paid, payment, right_rows, violations

RESTORED = {
    RESTORED_TO: datetime.fromisoformat("2026-01-01T12:00:00Z"),
    RESTORED_AT: datetime.fromisoformat("2026-01-01T13:00:00Z"),
}
BETWEEN = datetime.fromisoformat("2026-01-01T12:30:00Z")
LONG_BEFORE, AFTERWARDS = RESTORED[RESTORED_TO] - timedelta(minutes=5), RESTORED[RESTORED_AT] + timedelta(minutes=5)


def found(rows: Rows, milestones: dict[str, datetime] = RESTORED) -> tuple[AfterBackup | None, set[tuple[str, str]]]:
    """What was accepted after the backup, and the violations."""
    with filled(rows) as database:
        after_backup = database.find_after_backup(milestones, 10)
        return after_backup, violations(judge(database, 60))


def test_orders_that_only_others_know_are_counted_and_named() -> None:
    charged, told, promised = (first_id(BETWEEN + timedelta(seconds=n)) for n in range(3))
    rows = right_rows()
    rows["accepted"].append({"order_id": promised})
    rows["rows"] += [*paid(charged), payment(told, "declined"), notification(told, "email", "decline")]
    assert found(rows) == (
        AfterBackup("2026-01-01T12:00:00+00:00", 3, 0, 1, (charged, told, promised)),
        set(),
    )


def test_an_order_that_was_committed_just_after_its_id_was_made_counts_too() -> None:
    order_id = first_id(RESTORED[RESTORED_TO] - timedelta(seconds=10))
    rows = right_rows()
    rows["rows"].append(charge(order_id))
    after_backup, wrong = found(rows)
    assert (after_backup and after_backup.orders, wrong) == (1, set())


@pytest.mark.parametrize("placed_at", [LONG_BEFORE, AFTERWARDS])
def test_an_order_of_another_time_that_is_missing_is_a_violation(placed_at: datetime) -> None:
    order_id = first_id(placed_at)
    rows = right_rows()
    rows["accepted"].append({"order_id": order_id})
    rows["rows"].append(charge(order_id))
    after_backup, wrong = found(rows)
    assert wrong == {("accepted-order-exists", order_id), ("belongs-to-an-order", order_id)}
    assert after_backup is not None
    assert after_backup.orders == 0


def test_without_a_restore_every_order_that_is_missing_is_a_violation() -> None:
    rows = right_rows()
    rows["rows"].append(charge(first_id(BETWEEN)))
    assert found(rows, {}) == (None, {("belongs-to-an-order", first_id(BETWEEN))})


def test_a_cancellation_that_only_the_ledger_knows_is_counted_and_its_order_not_judged() -> None:
    rows = right_rows()
    rows["rows"].append({**charge("confirmed", "refund"), "at": BETWEEN.isoformat()})
    after_backup, wrong = found(rows)
    assert after_backup == AfterBackup("2026-01-01T12:00:00+00:00", 0, 1, 0, ("confirmed",))
    assert wrong == set()


@pytest.mark.parametrize("refunded_at", [LONG_BEFORE, AFTERWARDS])
def test_a_refund_of_another_time_without_a_cancellation_is_a_violation(refunded_at: datetime) -> None:
    rows = right_rows()
    rows["rows"].append({**charge("confirmed", "refund"), "at": refunded_at.isoformat()})
    assert found(rows)[1] == {("captured-equals-total", "confirmed")}


def test_an_order_is_charged_once_also_if_its_cancellation_was_lost() -> None:
    rows = right_rows()
    rows["rows"] += [{**charge("confirmed", "refund"), "at": BETWEEN.isoformat()}, charge("confirmed")]
    assert found(rows)[1] == {("charged-once", "confirmed")}

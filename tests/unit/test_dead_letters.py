"""What a dead letter says of itself, how a redriven one looks, and what the audit reads of journals. No broker."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control_room.operations.audit.reading import read_discards, read_journal
from control_room.operations.audit.reconciliation import reconciliation_database
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import discard
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.moot import why_moot
from control_room.operations.dead_letters.redrive import redriven
from control_room.operations.dead_letters.selection import Selection, queue_named
from shared.events import encode
from shared.ids import first_id
from shared.messaging.message import Message
from tests.examples import order_placed, payment_voided

QUEUE = "payment_service.charge"
PARKED: dict[str, Any] = {
    "attempt": 4,
    "first-seen": "2026-01-01T00:00:00.000Z",
    "dead-letter-reason": "attempts-exhausted",
    "dead-letter-error": "the gateway is away",
    "dead-letter-attempts": 4,
    "dead-letter-queue": QUEUE,
    "dead-letter-at": "2026-01-01T00:01:00.000Z",
}
# As pika reads it: the broker moved the message itself after too many returns.
X_DEATH: Any = [{"count": 1, "reason": "delivery_limit", "queue": QUEUE, "time": datetime(2026, 1, 1, tzinfo=UTC)}]
PLACED = order_placed()


def dead_letter(body: bytes = b"garbage", message_id: str | None = "m-1", **headers: Any) -> DeadLetter:
    return DeadLetter(QUEUE, Message("", f"{QUEUE}.dead", body, message_id=message_id, headers=headers))


def parked_event(**headers: Any) -> DeadLetter:
    return dead_letter(encode(PLACED), PLACED.id, **PARKED, **headers)


def test_a_parked_event_tells_its_order_its_cause_and_its_attempts() -> None:
    found = parked_event()

    assert (found.id, found.order_id, found.event_order_id) == (PLACED.id, PLACED.subject, PLACED.subject)
    assert (found.reason, found.error, found.attempts) == ("attempts-exhausted", "the gateway is away", 4)
    assert found.parked_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("cancelled", "moot: the order is cancelled, and a redrive charges nothing"),
        ("refunded", "moot: the order is refunded, and a redrive charges nothing"),
        *((status, "") for status in ("stalled", "cancelling", "confirmed", "declined")),
    ],
)
def test_the_charge_of_an_order_that_was_taken_back_is_moot(status: str, said: str) -> None:
    assert why_moot(parked_event(), {PLACED.subject: status}) == said


def test_what_is_told_of_a_cancelled_order_and_poison_are_not_moot() -> None:
    voided = encode(payment_voided(PLACED.subject))
    mail = Message("", "notification_service.email.dead", voided, headers=PARKED)
    statuses = {PLACED.subject: "cancelled"}
    assert why_moot(DeadLetter("notification_service.email", mail), statuses) == ""
    assert why_moot(dead_letter(b'{"subject": "%s"}' % PLACED.subject.encode(), **PARKED), statuses) == ""


def test_an_order_whose_status_is_unknown_makes_nothing_moot() -> None:
    assert why_moot(parked_event(), {}) == ""


def test_what_the_broker_parked_itself_is_read_from_its_own_header() -> None:
    found = dead_letter(**{"x-death": X_DEATH})

    assert found.reason == "delivery-limit"
    assert "returned to its queue too often" in found.error
    assert found.parked_at == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({**PARKED, "x-death": [{"reason": "expired", "queue": f"{QUEUE}.retry.1s"}]}, "attempts-exhausted"),
        ({}, ""), ({"x-death": "nonsense"}, ""), ({"x-death": [7]}, ""), ({"dead-letter-reason": 12}, ""),
    ],
)  # fmt: skip
def test_time_spent_in_a_retry_queue_is_no_cause_nor_is_what_cannot_be_read(headers: Any, reason: str) -> None:
    assert dead_letter(**headers).reason == reason


@pytest.mark.parametrize("at", ["yesterday", 12, None])
def test_a_dead_letter_without_a_readable_time_has_none(at: Any) -> None:
    assert dead_letter(**{"dead-letter-at": at}).parked_at is None


def test_poison_without_an_id_gets_one_that_stays_and_is_its_own() -> None:
    first = dead_letter(b"one", None, **PARKED).id

    assert first.startswith("poison-")
    assert first == dead_letter(b"one", None, **{**PARKED, "dead-letter-at": "2027-01-01T00:00:00Z"}).id
    assert len({first, dead_letter(b"two", None, **PARKED).id, dead_letter(b"one", None).id}) == 3


def test_an_id_cannot_steer_a_terminal() -> None:
    assert dead_letter(b"", "a\x1b[2Jb").id == "a\\x1b[2Jb"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"7", b'{"subject": 7}', b'{"subject": "me"}', b"[" * 100_000])
def test_poison_belongs_to_no_order(body: bytes) -> None:
    found = dead_letter(body)
    assert (found.order_id, found.event_order_id) == (None, None)


def test_a_redriven_message_begins_again_and_says_so() -> None:
    before = parked_event(**{"x-death": X_DEATH, "redrive-count": 2, "key.subject": PLACED.subject})

    after = redriven(before)

    assert (after.exchange, after.routing_key) == ("", QUEUE)
    assert (after.body, after.message_id) == (before.message.body, PLACED.id)
    assert (after.headers["attempt"], after.headers["redrive-count"]) == (1, 3)
    assert datetime.fromisoformat(after.headers["redriven-at"]).tzinfo is not None
    assert set(after.headers) == {"first-seen", "attempt", "redrive-count", "redriven-at", "key.subject"}


def test_a_selection_means_what_has_all_that_it_names() -> None:
    exhausted = dead_letter(**PARKED)

    assert exhausted in Selection()
    assert exhausted in Selection(id="m-1", cause="attempts-exhausted")
    assert exhausted not in Selection(id="m-1", cause="not-json")
    assert exhausted not in Selection(id="m-2")


def test_a_queue_may_be_named_with_or_without_dead() -> None:
    assert queue_named(QUEUE) == queue_named(f"{QUEUE}.dead") == QUEUE
    with pytest.raises(ValueError, match="expected one of order_service"):
        queue_named("payment_service")


def test_the_journal_keeps_a_discarded_message_whole_and_the_audit_reads_it(tmp_path: Path) -> None:
    journal = tmp_path / "new" / "discards.ndjson"

    discard.write(journal, [discard.entry(parked_event(**{"x-death": X_DEATH}), "known fault")])
    discard.write(journal, [discard.entry(dead_letter(b"\xff\x00", None), "noise")])

    event, poison = [json.loads(line) for line in journal.read_text().splitlines()]
    assert event["message"]["body"] == encode(PLACED).decode()
    assert event["message"]["headers"]["dead-letter-reason"] == "attempts-exhausted"
    assert (event["because"], event["order_id"]) == ("known fault", PLACED.subject)
    assert (poison["message"]["body_base64"], poison["order_id"]) == ("/wA=", None)
    with reconciliation_database(0) as database:
        read_discards(database, journal)
        assert database.counts()["discarded"] == 2


def test_the_last_line_of_a_journal_may_be_unfinished(tmp_path: Path) -> None:
    journal = tmp_path / "accepted"
    journal.write_text("order-1\n\norder-2\norder-")

    with reconciliation_database(0) as database:
        read_journal(database.accept, journal)
        assert database.counts()["accepted"] == 2


def test_a_journal_that_is_not_there_is_said(tmp_path: Path) -> None:
    with reconciliation_database(0) as database, pytest.raises(AuditImpossible, match="can't be read"):
        read_journal(database.accept, tmp_path / "accepted")


def test_the_journal_of_discards_forgets_old_orders_and_old_poison(tmp_path: Path) -> None:
    journal, july = tmp_path / "discards.ndjson", datetime(2026, 7, 1, tzinfo=UTC)
    old, kept = (encode(order_placed(first_id(july + days * timedelta(days=1)))) for days in (-1, 1))
    discard.write(journal, [discard.entry(dead_letter(body, **PARKED), "done") for body in (old, kept, b"poison")])
    poison_of_june = discard.entry(dead_letter(b"old poison"), "done") | {"discarded_at": "2026-06-01T00:00:00+00:00"}
    discard.write(journal, [poison_of_june])
    with journal.open("a") as file:
        file.write("written by hand\n")
    lines = journal.read_text().splitlines()

    assert discard.forget(journal, july) == 2

    assert journal.read_text().splitlines() == [lines[1], lines[2], lines[4]]
    assert journal.stat().st_mode & 0o777 == 0o600
    assert discard.forget(journal, july) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["discards.ndjson", "discards.ndjson.lock"]


def test_a_discard_waits_while_the_journal_is_rewritten(tmp_path: Path) -> None:
    journal = tmp_path / "discards.ndjson"
    discard.write(journal, [discard.entry(dead_letter(), "first")])
    with ThreadPoolExecutor(1) as pool:
        with discard._locked(journal):
            written = pool.submit(discard.write, journal, [discard.entry(dead_letter(), "second")])
            with pytest.raises(TimeoutError):
                written.result(0.1)
        written.result(10)
    assert len(journal.read_text().splitlines()) == 2


def test_there_may_be_no_journal_to_forget(tmp_path: Path) -> None:
    assert discard.forget(tmp_path / "discards.ndjson", datetime.now(UTC)) == 0

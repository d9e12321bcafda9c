"""What a dead letter says of itself, how a redriven one looks, and what a journal keeps. No broker."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control_room.operations.audit.reading import read_discards, read_journal
from control_room.operations.audit.reconciliation import reconciliation_database
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import discard
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.redrive import redriven
from control_room.operations.dead_letters.selection import Selection, queue_named
from shared.events import encode
from shared.messaging.message import Message
from tests.examples import order_placed

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


def letter(body: bytes = b"garbage", message_id: str | None = "m-1", **headers: Any) -> DeadLetter:
    message = Message("", f"{QUEUE}.dead", body, message_id=message_id, headers=headers)
    return DeadLetter(QUEUE, message)


def test_a_parked_event_tells_its_order_its_cause_and_its_attempts() -> None:
    placed = order_placed()

    found = letter(encode(placed), placed.id, **PARKED)

    assert (found.id, found.order_id, found.event_order_id) == (placed.id, placed.subject, placed.subject)
    assert (found.reason, found.error, found.attempts) == ("attempts-exhausted", "the gateway is away", 4)
    assert found.parked_at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_a_letter_that_the_broker_parked_is_read_from_its_own_header() -> None:
    found = letter(**{"x-death": X_DEATH})

    assert found.reason == "delivery-limit"
    assert "returned to its queue too often" in found.error
    assert found.parked_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_time_spent_in_a_retry_queue_is_no_cause() -> None:
    expired: Any = [{"reason": "expired", "queue": f"{QUEUE}.retry.1s"}]

    assert letter(**PARKED, **{"x-death": expired}).reason == "attempts-exhausted"


@pytest.mark.parametrize("headers", [{}, {"x-death": "nonsense"}, {"x-death": [7]}, {"dead-letter-reason": 12}])
def test_a_letter_without_a_readable_cause_has_none(headers: dict[str, Any]) -> None:
    assert letter(**headers).reason == ""


@pytest.mark.parametrize("at", ["yesterday", 12, None])
def test_a_letter_without_a_readable_time_has_none(at: Any) -> None:
    assert letter(**{"dead-letter-at": at}).parked_at is None


def test_poison_without_an_id_gets_one_that_stays_and_is_its_own() -> None:
    first = letter(b"one", None, **PARKED).id

    assert first.startswith("poison-")
    assert first == letter(b"one", None, **{**PARKED, "dead-letter-at": "2027-01-01T00:00:00Z"}).id
    assert len({first, letter(b"two", None, **PARKED).id, letter(b"one", None).id}) == 3


def test_an_id_cannot_steer_a_terminal() -> None:
    assert letter(b"", "a\x1b[2Jb").id == "a\\x1b[2Jb"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"7", b'{"subject": 7}', b'{"subject": "me"}', b"[" * 100_000])
def test_poison_belongs_to_no_order(body: bytes) -> None:
    found = letter(body)

    assert (found.order_id, found.event_order_id) == (None, None)


def test_a_redriven_message_begins_again_and_says_so() -> None:
    placed = order_placed()
    before = letter(encode(placed), placed.id, **PARKED, **{"x-death": X_DEATH, "redrive-count": 2})

    after = redriven(before)

    assert (after.exchange, after.routing_key) == ("", QUEUE)
    assert (after.body, after.message_id) == (before.message.body, placed.id)
    assert after.headers["attempt"] == 1
    assert after.headers["redrive-count"] == 3
    assert datetime.fromisoformat(after.headers["redriven-at"]).tzinfo is not None
    assert set(after.headers) == {"first-seen", "attempt", "redrive-count", "redriven-at"}


def test_a_selection_means_what_has_all_that_it_names() -> None:
    exhausted = letter(**PARKED)

    assert exhausted in Selection()
    assert exhausted in Selection(id="m-1", cause="attempts-exhausted")
    assert exhausted not in Selection(id="m-1", cause="not-json")
    assert exhausted not in Selection(id="m-2")


def test_a_queue_may_be_named_with_or_without_dead() -> None:
    assert queue_named(QUEUE) == queue_named(f"{QUEUE}.dead") == QUEUE
    with pytest.raises(ValueError, match="expected one of order_service"):
        queue_named("payment_service")


def test_the_journal_keeps_a_discarded_message_whole_and_the_audit_reads_it(tmp_path: Path) -> None:
    placed, journal = order_placed(), tmp_path / "new" / "discards.ndjson"
    event = letter(encode(placed), placed.id, **PARKED, **{"x-death": X_DEATH})
    poison = letter(b"\xff\x00", None)

    discard.write(journal, [discard.entry(event, "known fault")])
    discard.write(journal, [discard.entry(poison, "noise")])

    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert kept[0]["message"]["body"] == encode(placed).decode()
    assert kept[0]["message"]["headers"]["dead-letter-reason"] == "attempts-exhausted"
    assert (kept[0]["because"], kept[0]["order_id"]) == ("known fault", placed.subject)
    assert (kept[1]["message"]["body_base64"], kept[1]["order_id"]) == ("/wA=", None)
    with reconciliation_database(0) as read:
        read_discards(read, journal)
        assert read.counts()["discarded"] == 2


def test_a_journal_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(discard.NotDiscarded, match="nothing was removed"):
        discard.write(tmp_path / "file" / "discards.ndjson", [])


def test_the_last_line_of_a_journal_may_be_unfinished(tmp_path: Path) -> None:
    journal = tmp_path / "accepted"
    journal.write_text("order-1\n\norder-2\norder-")

    with reconciliation_database(0) as read:
        read_journal(read, journal)
        assert read.counts()["accepted"] == 2


def test_a_journal_that_is_not_there_is_said(tmp_path: Path) -> None:
    with reconciliation_database(0) as read, pytest.raises(AuditImpossible, match="can't be read"):
        read_journal(read, tmp_path / "accepted")

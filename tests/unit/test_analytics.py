"""The rules of the analytics, and that its database counts each fact once."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from control_room.analytics.check import NotComparable, differences, expect_whole
from control_room.analytics.command import start_of
from control_room.analytics.follow import Replayed, totals_of
from control_room.analytics.model import (
    Figure,
    JsonEvent,
    UnreadableBatch,
    count,
    events_in,
    minutes_of,
    percentile_of,
    rounded,
)
from control_room.analytics.store import AnalyticsStore, AnalyticsUnavailable, progress_table
from control_room.operations.audit import AuditReport
from shared.events import Event, encode
from shared.ids import first_id, new_id
from shared.messaging.stream import Position
from tests import examples

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MINUTE = int(NOON.timestamp() // 60)


def at(event: Event, seconds: float) -> JsonEvent:
    """The event as it is in the stream, so many seconds after noon."""
    moved = event.model_copy(update={"time": NOON + timedelta(seconds=seconds)})
    return from_json(encode(moved))  # type: ignore[no-any-return]


def confirmed(order_id: str) -> list[JsonEvent]:
    """An order that takes 70 s."""
    return [
        at(examples.order_placed(order_id), 0),
        at(examples.payment_succeeded(order_id), 30),
        at(examples.ticket_delivered(order_id), 31),
        at(examples.receipt_delivered(order_id), 70),
    ]


def refunded(order_id: str) -> list[JsonEvent]:
    return [
        *confirmed(order_id),
        at(examples.order_cancelled(order_id), 80),
        at(examples.payment_refunded(order_id), 90),
    ]


def refunded_unseen(order_id: str) -> list[JsonEvent]:
    """Charged while it was being cancelled: no event says that it was paid."""
    return [
        at(examples.order_placed(order_id), 0),
        at(examples.order_cancelled(order_id), 1),
        at(examples.payment_voided(order_id), 2),
        at(examples.payment_refunded(order_id), 3),
    ]


def declined(order_id: str) -> list[JsonEvent]:
    return [at(examples.order_placed(order_id), 0), at(examples.payment_declined(order_id), 1)]


def voided(order_id: str) -> list[JsonEvent]:
    return [
        at(examples.order_placed(order_id), 0),
        at(examples.payment_stalled(order_id), 1),
        at(examples.order_cancelled(order_id), 2),
        at(examples.payment_voided(order_id), 3),
    ]


FATES: dict[str, Callable[[str], list[JsonEvent]]] = {
    "confirmed": confirmed,
    "refunded": refunded,
    "unseen": refunded_unseen,
    "declined": declined,
    "voided": voided,
}
TOTALS = {
    "cancellations": 3,
    "captured": {"EUR": 6600},
    "confirmed": 2,
    "declines": 1,
    "dishes": {"Cola 0.33 l": 5, "Pizza Margherita": 10},
    "orders": 5,
    "refunded": {"EUR": 4400},
    "refunds": 2,
}
"""Of one order of each fate."""
STATUSES = {"confirmed": 1, "refunded": 2, "declined": 1, "cancelled": 1}


def one_of_each() -> list[JsonEvent]:
    return list(chain.from_iterable(fate(new_id()) for fate in FATES.values()))


def test_each_minute_has_what_happened_in_it() -> None:
    minutes = minutes_of(count([*confirmed(new_id()), *refunded(new_id())], {}))

    first, second = minutes
    assert (first.at, second.at) == (NOON.timestamp(), NOON.timestamp() + 60)
    assert (first.orders, first.confirmed, first.revenue) == (2, 0, {"EUR": 4400})
    assert (second.orders, second.confirmed, second.cancellations, second.refunds) == (0, 2, 1, 1)
    assert second.revenue == {"EUR": -2200}
    assert (first.p50, second.p50, second.p95) == (None, 70_000, 70_000)


@given(st.randoms(use_true_random=False))
def test_in_whatever_order_and_how_often_events_come_each_fact_counts_once(chance: random.Random) -> None:
    events = one_of_each() * 2
    chance.shuffle(events)

    totals: Counter[tuple[str, str]] = Counter()
    for figure, amount in count(events, {}).items():
        totals[figure.name, figure.key] += amount

    assert (totals["captured", "EUR"], totals["refunded", "EUR"]) == (6600, 4400)
    counts = {name: totals[name, ""] for name in ("orders", "confirmed", "declines", "cancellations", "refunds")}
    assert counts == {name: TOTALS[name] for name in counts}
    assert totals["dishes", "Pizza Margherita"] == 10
    assert totals["milliseconds", "70000"] == 2


def test_what_is_no_fact_of_an_order_changes_nothing() -> None:
    unknown = {**at(examples.order_placed(), 0), "type": "order.placed.v2"}

    assert not count([at(examples.ticket_delivered(), 0), at(examples.receipt_failed(), 0), unknown], {})


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0, 0), (0.0064, 6), (0.087, 87), (1.2345, 1200), (70, 70_000)])
def test_times_are_rounded_to_two_digits(seconds: float, milliseconds: int) -> None:
    assert rounded(seconds) == milliseconds


def test_percentiles_are_of_all_durations() -> None:
    durations = {100: 50, 200: 44, 900: 6}

    assert [percentile_of(durations, percent) for percent in (50, 51, 94, 95, 100)] == [100, 200, 200, 900, 900]
    assert percentile_of({}, 50) is None


NO_SUBJECT = b'[{"subject": 5, "type": "order.placed.v1", "time": "2026-11-27T12:00:00Z", "data": {}}]'


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'[{"type": "order.placed.v1"}]', NO_SUBJECT, b'"text"'])
def test_a_message_that_holds_no_events_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableBatch):
        events_in(body)


@pytest.fixture
def store(database_url: str) -> Iterator[AnalyticsStore]:
    store = AnalyticsStore(database_url)
    store.prepare()
    yield store
    store.close()


def test_a_database_counts_each_fact_once_and_knows_how_far_it_is(store: AnalyticsStore) -> None:
    events = one_of_each()

    store.add(events[:7], Position(0, "a"))
    store.add(events, Position(1, "b"), missing=3)
    store.add(events[5:], Position(2, "c"), missing=1)

    assert totals_of(store) == TOTALS
    assert store.statuses() == STATUSES
    assert minutes_of(store.figures(MINUTE))[0].orders == 5
    assert not [figure for figure in store.figures(MINUTE + 1) if figure.name == "orders"]
    progress = store.progress()
    assert (progress.position, progress.missing) == (Position(2, "c"), 4)
    assert progress.events == 7 + len(events) + len(events) - 5


def test_what_is_forgotten_does_not_count_again_and_its_totals_stay(
    store: AnalyticsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_room.analytics.store.FORGOTTEN_AT_ONCE", 2)
    old = [event for number in range(3) for event in confirmed(first_id(NOON + timedelta(milliseconds=number)))]
    young = confirmed(first_id(NOON + timedelta(minutes=2)))
    store.add([*old, *young[:2]], Position(0, "a"))
    horizon = NOON + timedelta(minutes=1)

    assert [store.forget(horizon) for _ in range(3)] == [2, 1, 0]
    store.forget(NOON)  # does not go back
    store.add([*old, *young], Position(1, "b"))

    assert totals_of(store)["orders"] == 4
    assert totals_of(store)["captured"] == {"EUR": 4 * 2200}
    assert store.statuses() == {"confirmed": 1}
    assert [each.confirmed for each in minutes_of(store.figures(MINUTE))] == [4]
    assert store.progress().position == Position(1, "b")


def test_a_crash_in_the_middle_leaves_neither_figures_nor_progress(
    store: AnalyticsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(confirmed(new_id()), Position(0, "a"))
    before, order = store.totals(), confirmed(new_id())

    def crash(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as context:
        context.setattr(store._add_figures, "run", crash)
        with pytest.raises(RuntimeError):
            store.add(order, Position(1, "b"))
    assert (store.totals(), store.progress().position) == (before, Position(0, "a"))

    store.add(order, Position(1, "b"))
    assert store.totals()["confirmed", ""] == 2


def test_an_event_that_is_not_as_its_type_says_holds_up_no_other(store: AnalyticsStore) -> None:
    whole = confirmed(new_id())
    broken = [{**whole[1], "data": {}}, {**whole[0], "time": "noon"}, {**whole[3], "data": None}]

    store.add([*broken, *whole], Position(0, "a"))

    assert totals_of(store)["unreadable"] == 3
    assert totals_of(store)["confirmed"] == 1


def test_a_database_of_another_version_begins_anew(store: AnalyticsStore, database_url: str) -> None:
    store.add(confirmed(new_id()), Position(0, "a"))
    store.prepare()
    assert store.progress().position == Position(0, "a")  # the same version stays
    with store._transaction() as connection:
        connection.execute(progress_table.update().values(version=0))

    store.prepare()

    assert (store.totals(), store.progress().position) == ({}, None)


def test_a_database_that_cannot_be_used_says_which_and_why() -> None:
    store = AnalyticsStore("postgresql://somebody:secret@127.0.0.1:1/figures")

    with pytest.raises(AnalyticsUnavailable, match=r"127\.0\.0\.1:1/figures can't be used") as raised:
        store.prepare()
    assert "secret" not in str(raised.value)


def report(**changes: object) -> AuditReport:
    """An audit that agrees with one order of each fate, but for the changes."""
    agreed: dict[str, object] = {
        "checks": (), "violations": (), "in_flight": 0, "in_flight_orders": (), "settle_seconds": 0.0,
        "counts": {"orders": 5}, "statuses": STATUSES, "money": {"EUR": {"charged": 6600, "refunded": 4400, "due": 0}},
    }  # fmt: skip
    return AuditReport(**{**agreed, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"counts": {"orders": 6}}, ["orders: the audit says 6, the stream of events 5"]),
        (
            {"statuses": {**STATUSES, "confirmed": 0, "stalled": 1}},
            [
                "confirmed orders: the audit says 0, the stream of events 1",
                "placed orders: the audit says 1, the stream of events 0",
            ],
        ),
        (
            {"money": {"EUR": {"charged": 6600, "refunded": 2200}}},
            ["refunded, in minor units of EUR: the audit says 2,200, the stream of events 4,400"],
        ),
    ],
)
def test_the_check_names_each_figure_that_differs(
    changes: dict[str, object], found: list[str], store: AnalyticsStore
) -> None:
    store.add(one_of_each(), Position(0, "a"))

    assert differences(store, report(**changes)) == found


def test_while_orders_are_in_flight_nothing_is_compared(store: AnalyticsStore) -> None:
    with pytest.raises(NotComparable, match="2 orders are in flight"):
        differences(store, report(in_flight=2))


PRUNED_AT = NOON.timestamp()


@pytest.mark.parametrize(
    ("first_offset", "first_at", "pruned_before", "is_whole"),
    [
        pytest.param(0, PRUNED_AT + 1, None, True, id="nothing is gone"),
        pytest.param(None, None, None, True, id="an empty stream"),
        pytest.param(7, PRUNED_AT - 1, NOON, True, id="all that is gone is about pruned orders"),
        pytest.param(7, PRUNED_AT + 1, NOON, False, id="later events are gone"),
        pytest.param(7, PRUNED_AT - 1, None, False, id="nothing is pruned"),
        pytest.param(7, None, NOON, False, id="nobody knows what is gone"),
    ],
)
def test_what_is_gone_from_the_stream_may_be_about_pruned_orders_alone(
    first_offset: int | None, first_at: float | None, pruned_before: datetime | None, is_whole: bool
) -> None:
    replayed = Replayed(9, 3, 0.1, first_offset, 9, 0, first_at)
    audited = report(pruned_before=pruned_before and pruned_before.isoformat())

    with nullcontext() if is_whole else pytest.raises(NotComparable, match="the oldest events are gone"):
        expect_whole(replayed, audited)


def test_messages_that_went_while_the_stream_was_read_may_be_about_any_order() -> None:
    with pytest.raises(NotComparable, match="40 messages went from the stream while it was read"):
        expect_whole(Replayed(9, 3, 0.1, 0, 9, 40, PRUNED_AT + 1), report())


def test_a_replay_begins_at_the_first_message_at_an_offset_or_at_a_time() -> None:
    assert (start_of("first"), start_of("0"), start_of("1200")) == ("first", 0, 1200)
    assert start_of("2026-11-27T12:00:00Z") == NOON
    assert start_of("2026-11-27T13:00:00+01:00") == NOON


@pytest.mark.parametrize("text", ["", "last", "-1", "1.5", "yesterday", "2026-11-27T12:00:00", "2026-11-27", "9" * 30])
def test_any_other_beginning_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected first|time zone"):
        start_of(text)


def test_a_figure_without_a_key_has_an_empty_one() -> None:
    assert count(declined(new_id()), {})[Figure(MINUTE, "declines")] == 1

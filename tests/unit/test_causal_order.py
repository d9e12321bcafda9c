"""An order's history has causes before effects, whatever the services' clocks say."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_room.operations.causal_order import Act, Entry, in_order

ORDERS, PAYMENTS, NOTIFICATIONS = "order_service", "payment_service", "notification_service"
PLACED, PAID, NOTIFIED = "order.placed.v1", "payment.succeeded.v1", "notification.delivered.v1"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def entry(second: float, clock: str, act: Act, event: str, what: str = "") -> Entry:
    return Entry(BEGIN + timedelta(seconds=second), clock, what or f"{act} {event}", clock=clock, event=event, act=act)


# As it was: each is the cause of the next. The first attempt to charge fails.
HISTORY = [
    entry(0, ORDERS, "happened", PLACED),
    entry(1, ORDERS, "published", PLACED),
    entry(2, PAYMENTS, "published", PLACED, "put into the retry queue"),
    entry(3, PAYMENTS, "handled", PLACED, "attempt 1"),
    entry(4, PAYMENTS, "happened", PAID),
    entry(5, PAYMENTS, "handled", PLACED, "attempt 2"),
    entry(6, PAYMENTS, "published", PAID),
    entry(7, NOTIFICATIONS, "happened", NOTIFIED),
    entry(8, NOTIFICATIONS, "handled", PAID),
    entry(9, NOTIFICATIONS, "published", NOTIFIED),
    entry(10, ORDERS, "handled", NOTIFIED),
]
WRONG_BY = st.sampled_from([-3600, -1, 0, 1, 3600])


def sorted_history(history: list[Entry], shuffler: random.Random) -> list[Entry]:
    timeline = [each for each in history if each.act == "happened"]
    others = [each for each in history if each.act != "happened"]
    return in_order(timeline, shuffler.sample(others, len(others)))


@given(st.randoms(use_true_random=False), WRONG_BY, WRONG_BY)
def test_a_history_is_in_the_order_of_its_causes_whatever_the_clocks_say(
    shuffler: random.Random, payments: int, notifications: int
) -> None:
    wrong_by = {ORDERS: 0, PAYMENTS: payments, NOTIFICATIONS: notifications}
    seen = [replace(each, at=each.at + timedelta(seconds=wrong_by[each.clock])) for each in HISTORY]

    shown = sorted_history(seen, shuffler)

    for clock in wrong_by:
        own = [each for each in seen if each.clock == clock]
        assert [each for each in shown if each.clock == clock] == own
    place = {each.what: shown.index(each) for each in seen}
    assert place[f"published {PLACED}"] < place["put into the retry queue"]
    assert place[f"published {PAID}"] < place[f"handled {PAID}"]
    assert place[f"happened {PAID}"] < place[f"happened {NOTIFIED}"]
    assert place[f"published {NOTIFIED}"] < place[f"handled {NOTIFIED}"]


@given(st.randoms(use_true_random=False))
def test_with_right_clocks_a_history_is_in_the_order_of_time(shuffler: random.Random) -> None:
    assert sorted_history(HISTORY, shuffler) == HISTORY


def test_an_effect_is_never_shown_before_its_cause_though_that_is_noted_a_moment_later() -> None:
    """A publish is noted at its confirm, when the consumer may have the message already."""
    placed, paid = entry(0, ORDERS, "happened", PLACED), entry(1, PAYMENTS, "happened", PAID)
    told = entry(1, NOTIFICATIONS, "happened", NOTIFIED)
    confirmed = [entry(1.001, ORDERS, "published", PLACED), entry(1.002, PAYMENTS, "published", PAID)]

    shown = in_order([placed, paid, told], confirmed)

    assert shown.index(confirmed[0]) < shown.index(paid) < shown.index(confirmed[1]) < shown.index(told)


def test_entries_that_contradict_each_other_are_all_there() -> None:
    """As when two replicas of a service have clocks of their own."""
    first, later = entry(9, PAYMENTS, "happened", PAID), entry(5, NOTIFICATIONS, "happened", NOTIFIED)
    handled = entry(7, NOTIFICATIONS, "handled", PAID)

    assert in_order([later, first], [handled]) == [later, first, handled]

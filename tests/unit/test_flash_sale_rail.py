"""Rates, waits and the chart of a flash sale, from counts taken once a second."""

import pytest

from control_room.experiments.flash_sale.chart import chart
from control_room.experiments.flash_sale.rail import Look, oldest_age_seconds, rate, seconds_to_drain


def filling(seconds: int, accepted_a_second: int = 100, paid_a_second: int = 10) -> list[Look]:
    """The rail for so many seconds of a sale."""
    return [Look(float(at), accepted_a_second * at, paid_a_second * at) for at in range(seconds + 1)]


def test_orders_that_are_accepted_and_not_paid_are_the_backlog() -> None:
    assert filling(10)[-1].backlog == 900
    assert Look(1.0, accepted=5, paid=7).backlog == 0  # earlier orders were paid


def test_rates_are_those_of_the_last_seconds() -> None:
    looks = [*filling(10), *(Look(float(at), 1000, 100 + 30 * (at - 10)) for at in range(11, 21))]

    assert rate(looks, "accepted") == 0
    assert rate(looks, "paid") == pytest.approx(30)
    assert rate(looks[:11], "accepted") == pytest.approx(100)
    assert rate(filling(0), "paid") == 0


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        (filling(30), 90 * 30 / 10),
        (filling(30, paid_a_second=0), None),
        (filling(30, 10, 10), 0),
        (filling(0), 0),
    ],
    ids=["at the pace of payments", "without payments", "no backlog", "no orders"],
)
def test_how_long_the_backlog_lasts(looks: list[Look], seconds: float | None) -> None:
    assert seconds_to_drain(looks) == (None if seconds is None else pytest.approx(seconds))


def test_the_oldest_order_is_the_next_to_be_paid() -> None:
    # 100 of 1000 are paid: the next one is number 101, which was accepted at the very beginning of the second second.
    assert oldest_age_seconds(filling(10)) == pytest.approx(10 - 1.01)
    assert oldest_age_seconds(filling(10, 10, 10)) == oldest_age_seconds(filling(0)) == 0


@pytest.mark.parametrize("looks", [filling(120), filling(3000), filling(0)], ids=["all", "long", "none"])
def test_the_chart_needs_nothing_from_elsewhere(looks: list[Look]) -> None:
    drawn = chart(looks).decode()

    assert drawn.startswith("<?xml")
    assert "accepted a second" in drawn
    assert "href" not in drawn
    assert "@import" not in drawn
    assert " src=" not in drawn

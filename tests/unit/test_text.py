"""Durations, counts, percentiles and tables as people read them."""

import pytest

from control_room.text import counted, duration, markdown_table, percentile, percentiles


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (0.0124, "12 ms"), (0.9999, "1.0 s"), (3.44, "3.4 s"), (9.99, "10 s"), (59.7, "1 min 0 s"),
        (200, "3 min 20 s"), (3599.9, "1 h 0 min"), (7500, "2 h 5 min"), (370_800, "4 d 7 h"),
    ],
)  # fmt: skip
def test_a_duration_has_the_units_that_a_person_would_choose(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_one_message_and_many_messages() -> None:
    assert [counted(number, "message") for number in (0, 1, 1200)] == ["0 messages", "1 message", "1,200 messages"]


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (25, 1.0), (26, 2.0), (50, 2.0), (99, 4.0), (100, 4.0)])
def test_a_percentile_is_a_value_that_was_seen(percent: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == expected


def test_percentiles_have_names_and_end_with_the_largest_value() -> None:
    assert percentiles(range(1000, 0, -1), (50, 99.9)) == {"p50": 500, "p99.9": 999, "max": 1000}
    assert list(percentiles([7.0])) == ["p50", "p95", "p99", "p99.9", "max"]
    assert percentiles([]) == {}


def test_a_cell_of_a_table_may_contain_the_signs_that_make_the_table() -> None:
    assert markdown_table(("what", "why"), [("a|b", "two\nlines")]) == [
        "| what | why |", "| --- | --- |", "| a\\|b | two lines |",
    ]  # fmt: skip

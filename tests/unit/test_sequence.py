"""What the trial of order per key counts as out of sequence."""

import pytest

from control_room.experiments.sequence import Handled, out_of_sequence, rate

PUBLISHED = {"ann": ["a1", "a2", "a3"], "bob": ["b1", "b2"]}


def handled(*events: str) -> list[Handled]:
    return [Handled("ann" if event[0] == "a" else "bob", event, float(at), 1) for at, event in enumerate(events)]


@pytest.mark.parametrize(
    ("events", "broken"),
    [
        pytest.param(("a1", "b1", "a2", "b2", "a3"), [], id="in sequence"),
        pytest.param(("b1", "b2", "a1", "a2", "a3"), [], id="keys do not wait for each other"),
        pytest.param(("a1", "a2", "a1", "a2", "a3", "b1", "b2"), [], id="done again after a crash"),
        pytest.param(("a2", "a1", "a2", "a3", "b1", "b2"), ["ann"], id="first too early"),
        pytest.param(("a1", "a2", "b1", "b2"), ["ann"], id="the last is missing"),
        pytest.param(("a1", "a3", "b2", "b1"), ["ann", "bob"], id="both"),
    ],
)
def test_a_key_is_out_of_sequence_if_an_event_is_missing_or_came_after_a_later_one(
    events: tuple[str, ...], broken: list[str]
) -> None:
    assert out_of_sequence(PUBLISHED, handled(*events)) == broken


def test_the_rate_is_from_the_first_event_to_the_last() -> None:
    assert rate(handled("a1", "b1", "a2")) == 1.0

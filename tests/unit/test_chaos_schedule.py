"""What falls when is drawn from the seed, and from nothing else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_room.experiments.chaos.faults import FAULTS
from control_room.experiments.chaos.schedule import Kind, chosen, draw

KINDS = {name: fault.kind for name, fault in FAULTS.items()}
SEEDS = st.integers(0, 10**6)


@given(SEEDS)
def test_the_same_seed_draws_the_same_faults(seed: int) -> None:
    assert draw(KINDS.values(), 600, seed) == draw(KINDS.values(), 600, seed)


def test_another_seed_draws_other_faults() -> None:
    assert draw(KINDS.values(), 600, 1) != draw(KINDS.values(), 600, 2)


@given(SEEDS, st.floats(1, 900))
def test_faults_do_not_overlap(seed: int, load_seconds: float) -> None:
    falls = draw(KINDS.values(), load_seconds, seed)

    for earlier, later in pairwise(falls):
        assert earlier.at_seconds + earlier.seconds + KINDS[earlier.fault].allowance_seconds <= later.at_seconds + 0.1


@given(SEEDS)
def test_all_but_the_first_are_over_when_the_load_ends(seed: int) -> None:
    for fall in draw(KINDS.values(), 120, seed)[1:]:
        assert fall.at_seconds + fall.seconds <= 120


@given(SEEDS)
def test_ten_minutes_have_room_for_every_fault(seed: int) -> None:
    assert {fall.fault for fall in draw(KINDS.values(), 600, seed)} == set(FAULTS)


@given(SEEDS)
def test_every_service_has_its_turn_before_one_has_its_second(seed: int) -> None:
    kind = Kind("kill", ("a", "b", "c"), (0, 0), 5)

    targets = [fall.target for fall in draw([kind], 100, seed)]

    assert set(targets[:3]) == set(targets[3:6]) == {"a", "b", "c"}


@given(SEEDS)
def test_a_fault_lasts_as_long_as_its_kind_allows(seed: int) -> None:
    for fall in draw(KINDS.values(), 300, seed):
        shortest, longest = KINDS[fall.fault].seconds
        assert shortest <= fall.seconds <= longest


def test_a_load_that_is_too_short_still_has_one_fault() -> None:
    assert len(draw(KINDS.values(), 1, 7)) == 1


def test_faults_are_chosen_by_name() -> None:
    assert [kind.name for kind in chosen("stop, kill,stop", KINDS)] == ["stop", "kill"]


def test_no_names_choose_every_fault() -> None:
    assert chosen("", KINDS) == list(KINDS.values())


def test_an_unknown_fault_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(ValueError, match=r"no fault is called flood; expected some of kill, freeze"):
        chosen("kill,flood", KINDS)

"""Which fault is injected when depends on the seed alone."""

import importlib
from itertools import pairwise
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_room.experiments.chaos.faults import FAULTS, Fault
from control_room.experiments.chaos.faults.crashes import CRASH_POINTS
from control_room.experiments.chaos.faults.fault import Inject
from control_room.experiments.chaos.schedule import chosen, draw
from control_room.experiments.chaos.system import SystemUnderTest

SEEDS = st.integers(0, 10**6)
INJECT: Inject[SystemUnderTest] = FAULTS["kill"].inject


@given(SEEDS)
def test_the_same_seed_draws_the_same_faults(seed: int) -> None:
    assert draw(FAULTS.values(), 600, seed) == draw(FAULTS.values(), 600, seed)


def test_another_seed_draws_other_faults() -> None:
    assert draw(FAULTS.values(), 600, 1) != draw(FAULTS.values(), 600, 2)


@given(SEEDS, st.floats(1, 900))
def test_faults_fit_into_the_load_and_do_not_overlap(seed: int, load_seconds: float) -> None:
    drawn = draw(FAULTS.values(), load_seconds, seed)

    for earlier, later in pairwise(drawn):
        assert earlier.at_seconds + earlier.seconds + FAULTS[earlier.fault].allowance_seconds <= later.at_seconds + 0.1
        assert later.at_seconds + later.seconds <= load_seconds
    for injection in drawn:
        shortest, longest = FAULTS[injection.fault].lasts_seconds
        assert shortest <= injection.seconds <= longest


@given(SEEDS)
def test_ten_minutes_have_room_for_every_fault(seed: int) -> None:
    of_one_node = [fault for fault in FAULTS.values() if fault.nodes == 1]
    assert {injection.fault for injection in draw(of_one_node, 600, seed)} == {fault.name for fault in of_one_node}


@given(SEEDS)
def test_they_have_room_for_each_fault_of_a_node_in_each_role(seed: int) -> None:
    of_nodes = [fault for fault in FAULTS.values() if fault.nodes > 1]
    drawn = {(injection.fault, injection.target) for injection in draw(of_nodes, 600, seed)}
    assert drawn == {(fault.name, target) for fault in of_nodes for target in fault.targets}


@given(SEEDS)
def test_every_target_has_its_turn_before_one_has_its_second(seed: int) -> None:
    targets = [injection.target for injection in draw([Fault("kill", ("a", "b", "c"), (0, 0), 5, INJECT)], 100, seed)]

    assert set(targets[:3]) == set(targets[3:6]) == {"a", "b", "c"}


@pytest.mark.parametrize("call", sorted({call for _, call in CRASH_POINTS.values()}))
def test_every_crash_point_is_a_function_that_exists(call: str) -> None:
    module_name, _, path = call.partition(":")
    assert callable(attrgetter(path)(importlib.import_module(module_name)))


def test_a_load_that_is_too_short_still_has_one_fault() -> None:
    assert len(draw(FAULTS.values(), 1, 7)) == 1


def test_faults_are_chosen_by_name() -> None:
    assert [fault.name for fault in chosen("stop, kill,stop", FAULTS)] == ["stop", "kill"]
    assert chosen("", FAULTS) == list(FAULTS.values())


def test_an_unknown_fault_is_named_and_the_known_ones_listed() -> None:
    with pytest.raises(ValueError, match=r"no fault is called flood; expected some of kill, freeze"):
        chosen("kill,flood", FAULTS)

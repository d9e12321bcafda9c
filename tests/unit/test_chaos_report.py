"""The report of a chaos run: what counts as a failure, and that people can read it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_room.experiments.chaos.report import ChaosReport, FallReport, LoadReport, MemoryReport, to_markdown

FALL = FallReport("kill", "payment_service", 12.0, 0.1, ("process 1 ended with status -9",), 2.0, 3.0)
LOAD = LoadReport(
    placed=100, accepted=100, asked_again=2, replayed=1, unknown=0, refused={}, seconds=60.0,
    latency_seconds={"p50": 0.01},
)  # fmt: skip
CHECK = {"name": "charged-once", "meaning": "At most one charge", "violations": 0, "not_judged": ""}
MEMORY = MemoryReport("payment_service", warm=100, last=110)


def report(
    fall: FallReport = FALL, load: LoadReport = LOAD, orders: int = 100, violations: tuple[Mapping[str, Any], ...] = ()
) -> ChaosReport:
    return ChaosReport(
        seed=7, rate=40, recover_within_seconds=15, load=load, falls=(fall,), never_fell=(), settled=100,
        still_open=(), duplicates=5, swept=1, memory=(MEMORY,),
        audit={"counts": {"orders": orders}, "checks": [CHECK], "violations": violations},
    )  # fmt: skip


def test_a_run_without_fault_in_it_held() -> None:
    assert report().held


def test_a_violation_of_the_audit_is_a_failure_that_names_the_order() -> None:
    failed = report(violations=({"invariant": "charged-once", "subject": "order 1", "what": "2 charges"},))

    assert failed.failures == ("charged-once: order 1: 2 charges",)
    assert not failed.held


def test_a_fault_without_evidence_is_a_failure() -> None:
    (failure,) = report(replace(FALL, evidence=())).failures
    assert failure == "kill on payment_service at 12 s: no evidence: nothing was seen"


def test_a_fault_whose_evidence_is_incomplete_says_what_was_expected() -> None:
    (failure,) = report(replace(FALL, problem="exit status 0, expected -9")).failures
    assert "no evidence: exit status 0, expected -9" in failure


def test_slow_recovery_is_a_failure() -> None:
    (failure,) = report(replace(FALL, back_seconds=15.5)).failures
    assert "back only after 15.5 s, expected within 15 s" in failure


def test_a_backlog_that_stays_is_a_failure() -> None:
    (failure,) = report(replace(FALL, backlog_seconds=None)).failures
    assert "rid of its backlog never" in failure


def test_more_orders_than_were_accepted_are_a_failure() -> None:
    assert report(orders=101).failures == ("1 orders more than were accepted: a lost answer has given a second order",)


def test_an_order_whose_answer_never_came_may_exist_or_not() -> None:
    load = replace(LOAD, unknown=1)

    assert report(load=load, orders=100).held
    assert report(load=load, orders=101).held
    assert not report(load=load, orders=102).held


def test_a_service_that_grows_is_a_failure() -> None:
    grown = replace(MEMORY, last=121)

    assert replace(report(), memory=(grown,)).failures == ("payment_service grew by 21 % after its warm-up",)
    assert replace(report(), memory=(replace(grown, warm=0),)).held  # the run was too short to tell


def test_an_order_that_was_refused_is_a_failure() -> None:
    assert report(load=replace(LOAD, refused={"422 no": 3})).failures == ("3 orders were refused: 422 no",)


@pytest.mark.parametrize("change", [{"never_fell": ("kill on order_service",)}, {"still_open": ("order 1",)}])
def test_what_did_not_come_to_its_end_is_a_failure(change: dict[str, tuple[str, ...]]) -> None:
    assert len(replace(report(), **change).failures) == 1  # type: ignore[arg-type]  # a test's own mixture


def test_the_report_is_json() -> None:
    read = json.loads(json.dumps(report().as_json()))

    assert read["held"] is True
    assert read["seed"] == 7
    assert read["falls"][0]["evidence"] == ["process 1 ended with status -9"]


def test_the_report_reads_as_markdown() -> None:
    text = to_markdown(report(replace(FALL, evidence=("a | b",))))

    assert "Seed 7, 60 s of load. **All of it held.**" in text
    assert r"| 12.0 | kill | payment_service | 0.1 | a \| b | 2.0 | 3.0 |" in text
    assert "+10 %" in text

"""The report of a chaos run: what counts as a failure, and that people can read it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from control_room.experiments.chaos.customers import Cancellations
from control_room.experiments.chaos.faults import Injection
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.watch import WARM_AFTER_SECONDS, Memory, Seen
from control_room.experiments.traffic import LoadReport

INJECTION = Injection(
    "kill", "payment_service", 12.0, evidence=["process 1 ended with status -9"],
    lasted_seconds=0.1, back_seconds=2.0, backlog_seconds=3.0,
)  # fmt: skip
LOAD = LoadReport(seconds=60.0, placed=100, accepted=100, repeated=2, replayed=1, latency_seconds={"p50": 0.01})
CHECK = {"name": "charged-once", "meaning": "At most one charge", "violations": 0, "not_judged": ""}
CANCELLATIONS = Cancellations(requested=20, accepted=19, too_late=["order 2"])
DOUBLE_CHARGE = {"invariant": "charged-once", "subject": "order 1", "what": "2 charges"}


def report(
    injection: Injection = INJECTION,
    load: LoadReport = LOAD,
    orders: int = 100,
    violations: tuple[Mapping[str, Any], ...] = (),
    memory: tuple[tuple[float, int], ...] = ((0.0, 50), (WARM_AFTER_SECONDS, 100), (10 * WARM_AFTER_SECONDS, 110)),
    still_open: str = "",
    cancellations: Cancellations = CANCELLATIONS,
    not_too_late: tuple[str, ...] = (),
    differences: tuple[str, ...] = (),
) -> ChaosReport:
    seen = Seen(memory={"payment_service": Memory(list(memory))})
    if still_open:
        seen.orders.add(still_open, 0.0)
    audit = {
        "counts": {"orders": orders}, "in_flight": 0, "checks": [CHECK], "violations": violations,
        "statuses": {"confirmed": 80, "cancelled": 5, "refunded": 14},
        "money": {"EUR": {"charged": 94_000, "refunded": 14_000, "due": 80_000}},
    }  # fmt: skip
    return ChaosReport(
        seed=7, rate=40, load_seconds=60, injections=[injection], load=load, seen=seen, audit=audit,
        cancellations=cancellations, not_too_late=not_too_late, events=400, differences=differences,
    )  # fmt: skip


def test_a_run_without_failures_held() -> None:
    assert report().held


@pytest.mark.parametrize(
    ("failed", "failure"),
    [
        (report(violations=(DOUBLE_CHARGE,)), "charged-once: order 1: 2 charges"),
        (
            report(replace(INJECTION, evidence=[])),
            "kill on payment_service at 12 s: no evidence: nothing was seen",
        ),
        (
            report(replace(INJECTION, problem="exit status 0, expected -9")),
            "kill on payment_service at 12 s: no evidence: exit status 0, expected -9",
        ),
        (
            report(replace(INJECTION, back_seconds=15.5)),
            "kill on payment_service at 12 s: back only after 15.5 s, expected within 15 s",
        ),
        (
            report(replace(INJECTION, backlog_seconds=None)),
            "kill on payment_service at 12 s: rid of its backlog never, expected within 15 s",
        ),
        (report(orders=101), "1 orders more than were accepted: a lost answer has given a second order"),
        (report(load=replace(LOAD, refused={"422 no": 3})), "3 orders were refused: 422 no"),
        (
            report(cancellations=replace(CANCELLATIONS, refused={"404 no": 3})),
            "3 cancellations were refused: 404 no",
        ),
        (report(not_too_late=("order 2",)), "1 cancellations were refused as too late, such as of order 2"),
        (
            report(memory=((0.0, 50), (WARM_AFTER_SECONDS, 100), (10 * WARM_AFTER_SECONDS, 121))),
            "payment_service grew by 21 % after its warm-up",
        ),
        (report(differences=("orders: 3, 2",)), "the stream of events and the audit differ: orders: 3, 2"),
        (report(still_open="order 1"), "1 accepted orders did not reach their end, such as order 1"),
    ],
)
def test_what_did_not_hold_is_a_failure_that_says_so(failed: ChaosReport, failure: str) -> None:
    assert failed.failures == [failure]
    assert not failed.held


def test_an_order_whose_answer_never_came_may_exist_or_not() -> None:
    load = replace(LOAD, unanswered=1)
    assert report(load=load, orders=100).held
    assert report(load=load, orders=101).held
    assert not report(load=load, orders=102).held


def test_the_growth_of_a_service_is_unknown_in_a_run_shorter_than_its_warm_up() -> None:
    assert report(memory=((0.0, 50), (WARM_AFTER_SECONDS - 1, 121))).held


def test_the_report_is_json() -> None:
    read = json.loads(json.dumps(report().as_json()))

    assert read["held"] is True
    assert read["seed"] == 7
    assert read["injections"][0]["evidence"] == INJECTION.evidence


def test_the_report_reads_as_markdown() -> None:
    text = report(replace(INJECTION, evidence=["a | b"])).as_markdown()

    assert "Seed 7, 60 s of load. **All of it held.**" in text
    assert r"| 12.0 | kill | payment_service | 0.1 | a \| b | 2.0 | 3.0 |" in text
    assert "+10 %" in text
    assert "- 400 events replayed from the stream that keeps them, as the audit says it" in text
    assert "- 19 orders cancelled by their customers, 1 too late, 0 not answered; 5 voided, 14 refunded" in text
    assert "- Captured minus refunded: 940.00 - 140.00 = 800.00 EUR; the paid orders cost 800.00 EUR." in text

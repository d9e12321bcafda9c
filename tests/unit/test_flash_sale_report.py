"""What a flash sale's report says, and when it is red."""

import json
from dataclasses import replace
from typing import Any

import pytest

from control_room.experiments.flash_sale.rail import Look
from control_room.experiments.flash_sale.report import OVER, SaleReport
from control_room.experiments.flash_sale.run import paced
from control_room.experiments.traffic import LoadReport

SALE = LoadReport(
    seconds=10.0, placed=1000, accepted=1000,
    latency_seconds={"p50": 0.01, "p99": 0.02, "p99.9": 0.03, "max": 0.04}, lateness_seconds={"p50": 0.001},
    processor_seconds=0.5,
)  # fmt: skip
AUDIT: dict[str, Any] = {
    "violations": [],
    "counts": {"accepted": 1000, "orders": 1000},
    "in_flight": 0,
    "checks": [{"name": "charged-once", "meaning": "one charge", "violations": 0, "not_judged": ""}],
}
LOOKS = [Look(float(at), min(1000, 100 * at), min(1000, 20 * at)) for at in range(51)]
GOOD = SaleReport(
    orders=1000, seconds=10, payments_per_minute=1200, drain=True, ended_in=OVER, sale=SALE, looks=LOOKS,
    predicted_seconds=40.0, drained_seconds=41.0, processor_seconds={"order_service": 5.0}, audit=AUDIT, processors=2,
)  # fmt: skip
VIOLATION = {"invariant": "charged-once", "subject": "an-order", "what": "2 charges in the ledger"}


def test_all_accepted_none_lost_and_a_clean_audit_hold() -> None:
    assert GOOD.held
    assert json.loads(json.dumps(GOOD.as_json()))["held"] is True
    assert "All were accepted, and none was lost." in GOOD.as_markdown()


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (replace(GOOD, sale=replace(SALE, accepted=997, refused={"503 away": 3})), "3 orders were refused: 503 away"),
        (replace(GOOD, sale=replace(SALE, accepted=999, unanswered=1)), "1 orders had no answer"),
        (replace(GOOD, sale=replace(SALE, placed=900, accepted=900)), "only 900 of 1,000 orders were placed"),
        (replace(GOOD, audit={**AUDIT, "violations": [VIOLATION]}), "charged-once: an-order: 2 charges in the ledger"),
        (replace(GOOD, drained_seconds=None, looks=LOOKS[:20]), "did not drain: 620 orders"),
        (replace(GOOD, audit=None), "not audited"),
        (replace(GOOD, ended_in="sale"), "broken off, in the phase: sale"),
        (replace(GOOD, sale=None), "no order was placed"),
    ],
)
def test_a_failure_turns_the_report_red_and_is_named(broken: SaleReport, failure: str) -> None:
    assert not broken.held
    assert any(failure in each for each in broken.failures)
    assert failure in broken.as_markdown()


def test_without_drain_orders_may_still_wait() -> None:
    assert replace(GOOD, drain=False, drained_seconds=None, looks=LOOKS[:20]).held


def test_the_pace_of_payments_is_reported_during_and_after_the_sale() -> None:
    assert GOOD.paid_per_minute == {"during the sale": pytest.approx(1200), "afterwards": pytest.approx(1200)}


def test_the_backlog_and_the_longest_wait_are_the_greatest_of_all_looks() -> None:
    assert GOOD.largest_backlog == 800
    assert GOOD.longest_wait_seconds == pytest.approx(49 - 9.81)  # just before the last 20 of 1000 are paid


def test_each_process_is_shown_with_its_share_of_the_machine() -> None:
    assert "| order_service | 5.0 | 50 % | 25.0 % |" in GOOD.as_markdown()
    assert "| customers | 0.5 | 5 % | 2.5 % |" in GOOD.as_markdown()


@pytest.mark.parametrize("payments_per_minute", [1, 59, 60, 10_000, 100_000])
def test_a_paced_payment_service_charges_no_more_than_it_may(payments_per_minute: int) -> None:
    pace = paced(payments_per_minute)
    concurrency, latency = int(pace["PAYMENT_CONCURRENCY"]), float(pace["GATEWAY_LATENCY_SECONDS"])

    assert 60 * concurrency / latency == pytest.approx(payments_per_minute, rel=1e-4)
    assert 1 <= concurrency <= 2000
    assert latency <= 60

"""`POST /prune` and `GET /milestones` of a service: what goes, what stays, and what a late event does afterwards."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.ids import first_id
from tests.examples import order_placed
from tests.service.process import OPERATOR, RunningService, problem
from tests.service.wire import Wire

CHARGE = "payment_service.charge"
JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


async def prune(service: RunningService, before: datetime, limit: int = 100) -> dict[str, Any]:
    body = {"before": before.isoformat(), "limit": limit}
    answer: dict[str, Any] = (await service.http.post("/prune", json=body, headers=OPERATOR)).raise_for_status().json()
    return answer


async def test_a_late_event_about_a_pruned_order_charges_nothing_and_says_why(
    payment_service: RunningService, wire: Wire
) -> None:
    old, kept = order_placed(first_id(JUNE), token="tok_flaky"), order_placed(first_id(JULY))
    wire.send_all([old, kept])
    for placed in (old, kept):
        await wire.event("payments", placed.subject, "payment.succeeded.v1")

    answers = [await prune(payment_service, JULY, limit=1) for _ in range(4)]

    # The payment, what the gateway has in its ledger, and the attempts that it has counted.
    assert [(answer["deleted"], answer["more"]) for answer in answers] == [(1, True)] * 3 + [(0, False)]
    assert {answer["before"] for answer in answers} == {"2026-07-01T00:00:00Z"}
    assert (await payment_service.http.get("/milestones", headers=OPERATOR)).json() == {
        "pruned_before": "2026-07-01T00:00:00Z"
    }
    assert {row["order_id"] for row in await payment_service.audit()} == {kept.subject}
    problem(await payment_service.http.get(f"/payments/{old.subject}"), 404)

    wire.send(old)

    parked = await wire.dead_letter(CHARGE, old.id)
    assert parked.headers["dead-letter-reason"] == "order-pruned"
    assert old.subject in str(parked.headers["dead-letter-error"])
    assert {row["order_id"] for row in await payment_service.audit()} == {kept.subject}
    assert len(wire.messages("payments", old.subject)) == 1


async def test_what_is_younger_than_a_day_stays(payment_service: RunningService, wire: Wire) -> None:
    placed = order_placed()
    wire.send(placed)
    await wire.event("payments", placed.subject, "payment.succeeded.v1")

    while (answer := await prune(payment_service, datetime.max.replace(tzinfo=UTC)))["more"]:
        pass

    before = datetime.fromisoformat(answer["before"])
    assert timedelta(0) <= datetime.now(UTC) - timedelta(days=1) - before < timedelta(minutes=1)
    assert (await payment_service.http.get(f"/payments/{placed.subject}")).is_success


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limit": 1}, "before"),
        ({"before": 1_700_000_000, "limit": 1}, "before"),
        ({"before": "1700000000", "limit": 1}, "before"),
        ({"before": "2026-07-01T00:00:00", "limit": 1}, "before"),  # of which time zone?
        ({"before": "2026-07-01T00:00:00Z"}, "limit"),
        *(({"before": "2026-07-01T00:00:00Z", "limit": limit}, "limit") for limit in (0, 1001, "5", 1.5)),
    ],
)
async def test_a_malformed_request_is_refused(
    payment_service: RunningService, body: dict[str, object], field: str
) -> None:
    refused = problem(await payment_service.http.post("/prune", json=body, headers=OPERATOR), 422)
    assert [error["field"] for error in refused["errors"]] == [field]


async def test_only_operators_prune(payment_service: RunningService) -> None:
    problem(await payment_service.http.post("/prune", json={"before": JULY.isoformat(), "limit": 1}), 401)
    problem(await payment_service.http.get("/milestones"), 401)


async def test_the_first_year_of_our_era_prunes_nothing(payment_service: RunningService) -> None:
    body = {"before": "0001-01-01T00:00:00+23:00", "limit": 1}
    answer = (await payment_service.http.post("/prune", json=body, headers=OPERATOR)).raise_for_status()
    assert (answer.json()["deleted"], answer.json()["more"]) == (0, False)

"""The payment service with Stripe as its gateway, on a real broker, against the stand-in."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.settings import BrokerSettings
from tests.examples import order_cancelled, order_placed
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.stripe_standin import KEY, Stripe, stripe_standin
from tests.support import eventually

CHARGE = "payment_service.charge"
CHARGED, REFUNDED = ("charges", "succeeded", 2200), ("refunds", "succeeded", 2200)


@pytest_asyncio.fixture(scope="module")
async def stripe(directory: Path) -> AsyncIterator[Stripe]:
    async with stripe_standin(directory) as stripe:
        yield stripe


def paying(
    stripe: Stripe, settings: BrokerSettings, directory: Path, key: str = KEY, until: str = "/readyz"
) -> AbstractAsyncContextManager[RunningService]:
    variables: dict[str, Any] = {"GATEWAY_URL": "stripe://", "STRIPE_API_KEY": key, "STRIPE_API_BASE": stripe.url}
    return running("payment_service", settings, directory, until=until, **variables)


@pytest.fixture(scope="module")
def settings(module_broker_settings: BrokerSettings) -> BrokerSettings:
    return module_broker_settings


async def test_one_charge_and_at_most_one_refund_whatever_gets_lost_or_comes_twice(
    stripe: Stripe, settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    placed = [order_placed(), order_placed(token="tok_declined"), order_placed()]
    paid, declined, cancelled = placed
    async with paying(stripe, settings, directory) as service:
        stripe.loses = 2
        for each in placed:
            wire.send(each, times=3)
        for each, event_type in zip(placed, ("succeeded", "declined", "succeeded"), strict=True):
            await wire.event("payments", each.subject, f"payment.{event_type}.v1")
        stripe.loses = 1
        wire.send(order_cancelled(cancelled.subject), times=3)
        await wire.event("payments", cancelled.subject, "payment.refunded.v1")

        assert stripe.loses == 0
        assert await stripe.of(paid.subject) == [CHARGED]
        assert CHARGED not in await stripe.of(declined.subject)
        assert await stripe.of(cancelled.subject) == [CHARGED, REFUNDED]
        rows = [row for row in await service.audit() if row["kind"] == "charge"]
        assert sorted((row["order_id"], row["type"]) for row in rows) == sorted(
            [(paid.subject, "charge"), (cancelled.subject, "charge"), (cancelled.subject, "refund")]
        )


async def test_a_wrong_key_holds_the_orders_says_what_to_do_and_the_right_one_goes_on(
    stripe: Stripe, settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    placed = [order_placed() for _ in range(5)]
    await wire.watch_dead_letters(CHARGE)
    async with paying(stripe, settings, directory, key="sk_test_mistyped") as service:
        for each in placed:
            wire.send(each)

        async def says_so() -> bool:
            answer = await service.http.get("/readyz")
            return answer.status_code == 503 and "STRIPE_API_KEY" in answer.text

        await eventually(says_so, 15, "/readyz to say what to do")
        probes = stripe.calls
        await eventually(lambda: stripe.calls >= probes + 2, 15, "two more probes")
        assert await service.metric("deliveries_held", queue=CHARGE) == len(placed)
        lines = service.log.read_text().splitlines()
        assert len([line for line in lines if "[error" in line]) == 1, lines
        assert "mistyped" not in service.log.read_text()
    assert "stop_timed_out" not in service.log.read_text()  # what is held does not hold up the stop

    async with paying(stripe, settings, directory):
        for each in placed:
            await wire.event("payments", each.subject, "payment.succeeded.v1")
            assert await stripe.of(each.subject) == [CHARGED]
    assert wire.parked[CHARGE] == []

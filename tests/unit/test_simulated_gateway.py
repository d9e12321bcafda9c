"""The simulated gateway: its answer to each token, and one charge for each key, however often it is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from payment_service.gateways.simulated import GatewayTimeout, GatewayUnavailable, SimulatedGateway
from payment_service.gateways.simulated.store import metadata
from payment_service.payments import Charged, Declined, Refunded
from shared.http.problems import Problem
from shared.ids import new_id
from shared.messaging.retry import PermanentError
from tests.examples import euros
from tests.support import create_tables, ready

PRICE = euros(950)


def opened(database_url: str) -> AbstractAsyncContextManager[SimulatedGateway]:
    create_tables(database_url, metadata)
    return ready(SimulatedGateway(database_url, latency_seconds=0))


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[SimulatedGateway]:
    async with opened(database_url) as gateway:
        yield gateway


async def ledger(gateway: SimulatedGateway) -> list[dict[str, Any]]:
    """Its rows, without their times."""
    rows = [dict(row) for _, row in await gateway.audit_source.page(None)]
    assert all(row.pop("at") <= datetime.now(UTC) for row in rows)
    return rows


@pytest.mark.parametrize(
    ("token", "reason"), [("tok_declined", "card_declined"), ("tok_unknown", "unknown_payment_token")]
)
async def test_a_bad_card_is_declined_and_not_charged(gateway: SimulatedGateway, token: str, reason: str) -> None:
    assert await gateway.charge(new_id(), token, PRICE) == Declined(reason)
    assert await ledger(gateway) == []


@pytest.mark.parametrize(
    ("token", "failures", "is_charged_before"),
    [
        ("tok_visa", [], False),
        ("tok_flaky", [GatewayUnavailable] * 2, False),
        ("tok_timeout", [GatewayTimeout], True),  # a lost answer is still a charge
    ],
)
async def test_each_key_meets_the_failures_of_its_card_and_is_charged_once(
    gateway: SimulatedGateway, token: str, failures: list[type[Exception]], is_charged_before: bool
) -> None:
    for charged, key in enumerate((new_id(), new_id())):
        for failure in failures:
            with pytest.raises(failure):
                await gateway.charge(key, token, PRICE)
        assert len(await ledger(gateway)) == charged + is_charged_before
        answer = await gateway.charge(key, token, PRICE)

        assert isinstance(answer, Charged)
        rows = [row for row in await ledger(gateway) if row["order_id"] == key]
        amount = dict(PRICE)
        assert rows == [
            {"kind": "charge", "order_id": key, "charge_id": answer.charge_id, "type": "charge", "amount": amount}
        ]


async def test_a_broken_gateway_fails_every_time(gateway: SimulatedGateway) -> None:
    key = new_id()
    for _ in range(5):
        with pytest.raises(GatewayUnavailable, match="503"):
            await gateway.charge(key, "tok_broken", PRICE)
    assert await ledger(gateway) == []


async def test_the_same_keys_at_once_by_two_services_and_later_charge_once(database_url: str) -> None:
    keys = [new_id() for _ in range(20)]
    async with opened(database_url) as first, opened(database_url) as second:
        answers = await asyncio.gather(
            *(gateway.charge(key, "tok_visa", PRICE) for gateway in (first, second, first) for key in keys)
        )
        assert len(await ledger(second)) == len(keys)
    async with opened(database_url) as restarted:
        answers += [await restarted.charge(key, "tok_visa", PRICE) for key in keys]

    assert answers == answers[: len(keys)] * 4


async def test_a_key_that_was_used_for_another_amount_is_refused(gateway: SimulatedGateway) -> None:
    key = new_id()
    await gateway.charge(key, "tok_visa", PRICE)

    with pytest.raises(PermanentError, match="another amount") as caught:
        await gateway.charge(key, "tok_visa", euros(951))
    assert caught.value.reason == "idempotency-mismatch"
    assert [row["amount"] for row in await ledger(gateway)] == [dict(PRICE)]


@pytest.mark.parametrize("token", ["tok_visa", "tok_timeout"])
async def test_a_charge_is_found_by_its_key_and_refunded_once(gateway: SimulatedGateway, token: str) -> None:
    key = new_id()
    assert await gateway.find(key) is None
    with suppress(GatewayTimeout):
        await gateway.charge(key, token, PRICE)

    charged = await gateway.find(key)
    assert charged is not None
    refunds = await asyncio.gather(*(gateway.refund(f"{key}/refund", charged, PRICE) for _ in range(3)))

    assert refunds == [Refunded(charged.charge_id, refunds[0].refund_id)] * 3
    about = {"kind": "charge", "order_id": key, "amount": dict(PRICE)}
    assert await ledger(gateway) == [
        {**about, "charge_id": charged.charge_id, "type": "charge"},
        {**about, "charge_id": refunds[0].refund_id, "type": "refund"},
    ]
    assert await gateway.find(key) == charged


async def test_a_refund_that_fails_works_once_it_is_repaired(gateway: SimulatedGateway) -> None:
    key = new_id()
    charged = await gateway.charge(key, "tok_refund_fails", PRICE)
    assert isinstance(charged, Charged)
    for _ in range(3):
        with pytest.raises(GatewayUnavailable, match="until it is repaired"):
            await gateway.refund(f"{key}/refund", charged, PRICE)

    await gateway.repair(key)

    await gateway.charge(key, "tok_refund_fails", PRICE)
    assert (await gateway.refund(f"{key}/refund", charged, PRICE)).charge_id == charged.charge_id
    assert [row["type"] for row in await ledger(gateway)] == ["charge", "refund"]
    with pytest.raises(Problem, match="no refund of an order"):
        await gateway.repair(key)


async def test_only_a_charge_is_refunded_and_only_with_its_own_amount(gateway: SimulatedGateway) -> None:
    with pytest.raises(PermanentError, match="no charge nothing to refund"):
        await gateway.refund("key", Charged("nothing"), PRICE)

    charged = await gateway.charge(key := new_id(), "tok_visa", PRICE)
    assert isinstance(charged, Charged)
    with pytest.raises(PermanentError, match="another amount"):
        await gateway.refund(f"{key}/refund", charged, euros(951))
    assert [row["type"] for row in await ledger(gateway)] == ["charge"]

"""The simulated gateway: an answer for each token, and one charge a key, however often and by how many it is asked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from payment_service.gateways.simulated import GatewayTimeout, GatewayUnavailable, SimulatedGateway, store
from payment_service.payments import Charged, Declined
from shared.ids import new_id
from shared.messaging.retry import PermanentError
from shared.persistence.pages import Page
from tests.examples import euros
from tests.support import start_ready


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[SimulatedGateway]:
    gateway = SimulatedGateway(database_url, latency_seconds=0)
    await start_ready(gateway)
    yield gateway
    await gateway.stop()


async def ledger(gateway: SimulatedGateway) -> list[Any]:
    return list(await gateway._ledger.read(store.pages, Page(None, 1000)))


async def charged_amounts(gateway: SimulatedGateway, key: str) -> list[int]:
    return [row.amount_minor for row in await ledger(gateway) if row.idempotency_key == key]


async def test_a_good_card_is_charged(gateway: SimulatedGateway) -> None:
    key = new_id()
    answer = await gateway.charge(key, "tok_visa", euros(950))

    assert isinstance(answer, Charged)
    (row,) = await ledger(gateway)
    assert (row.charge_id, row.order_id, row.type) == (answer.charge_id, key, "charge")
    assert (row.amount_minor, row.currency) == (950, "EUR")


@pytest.mark.parametrize(
    ("token", "reason"), [("tok_declined", "card_declined"), ("tok_of_nobody", "unknown_payment_token")]
)
async def test_a_bad_card_is_declined_and_not_charged(gateway: SimulatedGateway, token: str, reason: str) -> None:
    assert await gateway.charge(new_id(), token, euros(950)) == Declined(reason)
    assert await ledger(gateway) == []


async def test_a_flaky_gateway_fails_twice_for_each_key_and_charges_then(gateway: SimulatedGateway) -> None:
    for key in (new_id(), new_id()):
        for _ in range(2):
            with pytest.raises(GatewayUnavailable):
                await gateway.charge(key, "tok_flaky", euros(950))
        assert await charged_amounts(gateway, key) == []
        assert isinstance(await gateway.charge(key, "tok_flaky", euros(950)), Charged)
        assert await charged_amounts(gateway, key) == [950]


async def test_a_lost_answer_is_a_charge_all_the_same(gateway: SimulatedGateway) -> None:
    key = new_id()
    with pytest.raises(GatewayTimeout):
        await gateway.charge(key, "tok_timeout", euros(950))
    (row,) = await ledger(gateway)

    assert await gateway.charge(key, "tok_timeout", euros(950)) == Charged(row.charge_id)
    assert await charged_amounts(gateway, key) == [950]


async def test_a_broken_gateway_fails_every_time(gateway: SimulatedGateway) -> None:
    key = new_id()
    for _ in range(5):
        with pytest.raises(GatewayUnavailable, match="503"):
            await gateway.charge(key, "tok_broken", euros(950))
    assert await charged_amounts(gateway, key) == []


async def test_the_same_key_twenty_times_at_once_charges_once(gateway: SimulatedGateway) -> None:
    key = new_id()
    answers = await asyncio.gather(*(gateway.charge(key, "tok_visa", euros(950)) for _ in range(20)))

    assert len(set(answers)) == 1
    assert await charged_amounts(gateway, key) == [950]


async def test_one_ledger_asked_through_two_services_charges_once(database_url: str) -> None:
    gateways = [SimulatedGateway(database_url, latency_seconds=0) for _ in range(2)]
    for gateway in gateways:
        await start_ready(gateway)
    keys = [new_id() for _ in range(20)]

    answers = await asyncio.gather(
        *(gateway.charge(key, "tok_visa", euros(950)) for gateway in gateways for key in keys)
    )

    assert answers[: len(keys)] == answers[len(keys) :]
    assert len(await ledger(gateways[0])) == len(keys)
    for gateway in gateways:
        await gateway.stop()


async def test_a_key_that_was_used_for_another_amount_is_refused(gateway: SimulatedGateway) -> None:
    key = new_id()
    await gateway.charge(key, "tok_visa", euros(950))

    with pytest.raises(PermanentError, match="another amount") as caught:
        await gateway.charge(key, "tok_visa", euros(951))
    assert caught.value.reason == "idempotency-mismatch"
    assert await charged_amounts(gateway, key) == [950]


async def test_the_ledger_outlives_the_gateway(database_url: str) -> None:
    key, charge_ids = new_id(), []
    for _ in range(2):
        gateway = SimulatedGateway(database_url, latency_seconds=0)
        await start_ready(gateway)
        answer = await gateway.charge(key, "tok_visa", euros(950))
        assert isinstance(answer, Charged)
        charge_ids.append(answer.charge_id)
        await gateway.stop()

    assert charge_ids[0] == charge_ids[1]

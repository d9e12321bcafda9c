"""The Stripe adapter against the stand-in: one charge and at most one refund an order, in its own list."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio

from payment_service.gateways.stripe import KEY_KEPT_SECONDS, StripeGateway
from payment_service.payments import Charged, Declined
from shared.ids import new_id
from shared.messaging.retry import AccessDenied, NoAnswer, OutcomeUnknown, PermanentError, TransientError, Unavailable
from tests.examples import euros
from tests.stripe_standin import KEY, Stripe, stripe_standin
from tests.support import eventually, ready

PRICE = euros(950)
CHARGED = ("charges", "succeeded", 950)
REFUNDED = ("refunds", "succeeded", 950)


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stripe]:
    async with stripe_standin(tmp_path_factory.mktemp("stripe")) as stripe:
        yield stripe


@pytest.fixture
def stripe(server: Stripe) -> Stripe:
    server.recover()
    return server


@pytest_asyncio.fixture
async def gateway(stripe: Stripe) -> AsyncIterator[StripeGateway]:
    async with ready(StripeGateway(KEY, stripe.url, connections=8, answer_seconds=5)) as gateway:
        yield gateway


async def test_an_order_is_charged_once_however_often_and_by_however_many_at_once(
    gateway: StripeGateway, stripe: Stripe
) -> None:
    order = new_id()
    stripe.delay_seconds = 0.05

    async def charged() -> Charged | Declined | None:
        try:
            return await gateway.charge(order, "tok_visa", PRICE)
        except TransientError:  # 409: another request with this key is under way
            return None

    answers = {await charged() for _ in range(2)} | set(await asyncio.gather(*(charged() for _ in range(5))))
    (charge,) = answers - {None}
    assert isinstance(charge, Charged)
    assert await stripe.of(order) == [CHARGED]
    assert await gateway.find(order) == charge


async def test_a_declined_card_is_an_answer_and_charges_nothing(gateway: StripeGateway, stripe: Stripe) -> None:
    order, unknown = new_id(), new_id()
    for _ in range(2):
        assert await gateway.charge(order, "tok_declined", PRICE) == Declined("card_declined")
    assert await gateway.charge(unknown, "pm_of_another_account", PRICE) == Declined("unknown_payment_token")
    assert CHARGED not in [*await stripe.of(order), *await stripe.of(unknown)]
    assert await gateway.find(order) is None


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(gateway: StripeGateway, stripe: Stripe) -> None:
    order, stripe.loses = new_id(), 2
    for _ in range(2):
        with pytest.raises(NoAnswer, match="no answer from Stripe"):
            await gateway.charge(order, "tok_visa", PRICE)
    answer = await gateway.charge(order, "tok_visa", PRICE)

    assert await gateway.find(order) == answer
    assert await stripe.of(order) == [CHARGED]


async def test_a_key_that_stripe_has_forgotten_charges_no_second_time(gateway: StripeGateway, stripe: Stripe) -> None:
    made_at = int((time.time() - KEY_KEPT_SECONDS - 60) * 1000)
    order = str(UUID(f"{made_at:012x}{new_id().replace('-', '')[12:]}"))
    first = await gateway.charge(order, "tok_visa", PRICE)
    stripe.kept.clear()

    assert await gateway.charge(order, "tok_visa", PRICE) == first
    assert await stripe.of(order) == [CHARGED]


async def test_a_failure_that_stripe_repeats_for_a_key_concerns_that_order_alone(
    gateway: StripeGateway, stripe: Stripe
) -> None:
    order, stripe.breaks = new_id(), 1
    with pytest.raises(Unavailable, match="500"):
        await gateway.charge(order, "tok_visa", PRICE)
    with pytest.raises(TransientError, match="500") as caught:
        await gateway.charge(order, "tok_visa", PRICE)
    assert not isinstance(caught.value, Unavailable)
    assert await stripe.of(order) == []

    # Stripe says that such a request may have charged all the same.
    charged = await gateway.charge(new_id(), "tok_visa", PRICE)
    assert isinstance(charged, Charged)
    await stripe.localstripe.post(f"/v1/payment_intents/{charged.charge_id}", data={"metadata[order_id]": order})
    assert await gateway.charge(order, "tok_visa", PRICE) == charged


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (409, TransientError),
        (429, Unavailable),
        (500, NoAnswer),
        (503, NoAnswer),
    ],
)
async def test_each_status_means_what_stripe_says(
    gateway: StripeGateway, stripe: Stripe, status: int, expected: type[Exception]
) -> None:
    order, stripe.fails_with, calls = new_id(), status, stripe.calls
    with pytest.raises(expected, match=str(status)) as caught:
        await gateway.charge(order, "tok_visa", PRICE)
    assert type(caught.value) is expected
    assert stripe.calls == calls + 1  # the SDK repeats nothing by itself
    stripe.recover()
    assert await stripe.of(order) == []


async def test_a_server_that_does_not_answer_in_time_or_is_away_is_unavailable(stripe: Stripe) -> None:
    order, stripe.delay_seconds = new_id(), 0.5
    async with ready(StripeGateway(KEY, stripe.url, connections=1, answer_seconds=0.2)) as impatient:
        with pytest.raises(NoAnswer):
            await impatient.charge(order, "tok_visa", PRICE)
        await eventually(lambda: order in stripe.kept, expecting="the charge to be there")
        stripe.recover()
        await impatient.charge(order, "tok_visa", PRICE)
    assert await stripe.of(order) == [CHARGED]
    async with ready(StripeGateway(KEY, "http://127.0.0.1:9", connections=1, answer_seconds=0.2)) as nobody:
        with pytest.raises(Unavailable, match="can't be reached") as caught:
            await nobody.charge(order, "tok_visa", PRICE)
        assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_key_that_was_used_for_another_amount_is_refused(gateway: StripeGateway, stripe: Stripe) -> None:
    order = new_id()
    await gateway.charge(order, "tok_visa", PRICE)
    with pytest.raises(PermanentError) as caught:
        await gateway.charge(order, "tok_visa", euros(951))
    assert caught.value.reason == "idempotency-mismatch"
    assert await stripe.of(order) == [CHARGED]


async def test_a_charge_is_refunded_once_whatever_gets_lost(gateway: StripeGateway, stripe: Stripe) -> None:
    order = new_id()
    charged = await gateway.charge(order, "tok_visa", PRICE)
    assert isinstance(charged, Charged)
    stripe.loses = 1
    with pytest.raises(NoAnswer):
        await gateway.refund(f"{order}/refund", charged, PRICE)
    refund = await gateway.refund(f"{order}/refund", charged, PRICE)
    stripe.kept.clear()
    assert await gateway.refund(f"{order}/refund", charged, PRICE) == refund
    assert await stripe.of(order) == [CHARGED, REFUNDED]


async def test_a_charge_that_is_under_way_is_not_taken_for_none_and_none_succeeds_after_a_look(
    gateway: StripeGateway, stripe: Stripe
) -> None:
    order, later, stripe.delay_seconds = new_id(), new_id(), 0.3
    charging = asyncio.create_task(gateway.charge(order, "tok_visa", PRICE))
    await eventually(lambda: order in stripe.under_way, expecting="the charge to be under way")
    with pytest.raises(TransientError, match="409"):
        await gateway.find(order)
    charged = await charging
    stripe.recover()
    assert await gateway.find(order) == charged

    assert await gateway.find(later) is None
    with pytest.raises(PermanentError):
        await gateway.charge(later, "tok_visa", PRICE)
    assert await gateway.find(later) is None
    assert await stripe.of(later) == []


async def test_the_audit_lists_every_charge_and_refund_of_ours_oldest_first_over_all_pages(
    gateway: StripeGateway, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many in one second, as at a rush, few in a year, and one that is made while they are read."""
    monkeypatch.setattr("payment_service.gateways.stripe.PAGE", 3)
    year = 365 * 86_400
    ages = [4 * year, *[2 * year] * 7, 2 * year - 1, 86_400, 60, 0]
    orders = [new_id() for _ in ages]
    for order, age in zip(orders, ages, strict=True):
        stripe.ages[order] = age
        charged = await gateway.charge(order, "tok_visa", PRICE)
        assert isinstance(charged, Charged)
        await gateway.refund(f"{order}/refund", charged, PRICE)

    rows, calls = [], stripe.calls
    page = await gateway.audit_source.page(None)
    await gateway.charge(late := new_id(), "tok_visa", PRICE)
    while page:
        rows += [row for _, row in page if row["order_id"] in (*orders, late)]
        page = await gateway.audit_source.page(page[-1][0])

    assert [row["type"] for row in rows] == ["charge"] * 13 + ["refund"] * 12
    for listed in ([*orders, late], orders):
        found = [row["order_id"] for row in rows[: len(listed)]]
        del rows[: len(listed)]
        assert sorted(found) == sorted(listed)
        made = [stripe.ages.get(order, 0) for order in found]
        assert made == sorted(made, reverse=True)
    assert stripe.calls - calls < 500  # not second by second

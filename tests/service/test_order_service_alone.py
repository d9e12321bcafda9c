"""The order service without a broker, without a topology, and with a second replica beside it."""

import asyncio
from pathlib import Path

from shared.events import OrderCancelled
from shared.management import Management
from shared.settings import BrokerSettings
from shared.topology import provision
from tests import examples
from tests.conftest import Broker
from tests.order_rail import order_rail
from tests.postgres import PrivatePostgres
from tests.service.process import RunningService, running, running_alone
from tests.service.test_cancelling_orders import cancel
from tests.service.test_following_orders import BODY, place, reaches, streamed
from tests.service.wire import Wire
from tests.support import eventually


async def problems(service: RunningService, *expected: str) -> str:
    """What `/readyz` says, once it contains these words."""

    async def look() -> str:
        answer = await service.http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        found = "; ".join(answer.json()["problems"])
        return found if all(words in found.lower() for words in expected) else ""

    return str(await eventually(look, expecting=f"/readyz to say {expected}"))


async def test_orders_are_taken_while_the_broker_is_away(tmp_path: Path) -> None:
    async with running_alone("order_service", tmp_path) as service:
        answer = await service.http.post("/orders", json=BODY)
        assert answer.status_code == 202
        order = await service.http.get(answer.headers["location"])
        assert order.json()["status"] == "placed"

        assert "s3cret" not in await problems(service, "rabbitmq is away", "refused")
        assert (await service.http.get("/livez")).json()["status"] == "ok"

        async def counted() -> bool:
            return await service.metric("outbox_pending") == 1

        await eventually(counted, expecting="the event to wait in the outbox")
    assert service.process.returncode == 0  # and it stopped in time, with the broker still away


async def test_tables_that_are_missing_are_waited_for(module_broker_settings: BrokerSettings, tmp_path: Path) -> None:
    alone = running("order_service", module_broker_settings, tmp_path, until="/livez", has_tables=False)
    async with alone as service:
        await problems(service, "there is no table", "orders", "run `order-rail database upgrade`")
        assert (await service.http.post("/orders", json=BODY)).status_code == 503

        url = f"sqlite:///{tmp_path / 'order_service'}.db"
        ended = await order_rail("database", "upgrade", "--service", "order_service", DATABASE_URL=url)
        assert ended.status == 0, ended.errors
        await eventually(lambda: service.answers("/readyz", 200), 10, "the service to go on by itself")
        await place(service)


async def test_a_service_that_is_asked_to_stop_goes_on_serving_for_a_while_and_is_not_ready(tmp_path: Path) -> None:
    async def order_is_the_last_of_its_connection() -> bool:
        order = await service.http.post("/orders", json=BODY)
        assert order.status_code == 202
        return bool(order.headers.get("connection") == "close")

    async with running_alone("order_service", tmp_path, DRAIN_SECONDS="3") as service:
        assert not await order_is_the_last_of_its_connection()
        service.process.terminate()
        await problems(service, "the service is being stopped")
        await eventually(order_is_the_last_of_its_connection, 3, "connections to end")
        await asyncio.wait_for(service.process.wait(), 10)


async def test_a_missing_topology_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    settings = BrokerSettings(
        rabbitmq_url=broker.amqp_url("not-applied-yet"), rabbitmq_management_url=broker.management_url
    )
    async with Management(settings) as management:
        await management.put("vhosts", settings.vhost, body={})
        try:
            async with running("order_service", settings, tmp_path, until="/livez") as service:
                await problems(service, "order_service.track", "exchange 'orders'")
                order_id = await place(service)

                await provision.apply(settings)

                await eventually(lambda: service.answers("/readyz", 200), 20, "the service to go on by itself")
                async with Wire.open(settings) as wire:
                    # The event may have left before this queue was bound; the service must follow its order anyway.
                    wire.send(examples.payment_declined(order_id))
                    await reaches(service, order_id, "declined")
        finally:
            await management.delete("vhosts", settings.vhost)


async def test_two_replicas_stream_the_same_order_and_place_one_for_one_key(
    module_broker_settings: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    url = postgres.create_database()
    async with (
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as one,
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as other,
        Wire.open(module_broker_settings) as wire,
    ):
        replicas = (one, other)
        for _ in range(4):  # either replica may get each event
            order_id = await place(replicas[0])
            following = [asyncio.create_task(streamed(replica, order_id)) for replica in replicas]
            paid, receipt = examples.payment_succeeded(order_id), examples.receipt_delivered(order_id)
            wire.send(paid)
            wire.send(receipt)
            first, second = await asyncio.gather(*following)

            assert first == second
            assert sorted(first) == sorted([order_id, paid.id, receipt.id])

        before, headers = await replicas[0].audit(), {"Idempotency-Key": "the-same"}
        answers = await asyncio.gather(
            *(replica.http.post("/orders", json=BODY, headers=headers) for replica in replicas * 10)
        )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["order_id"] for answer in answers}) == 1
        assert len(await replicas[0].audit()) == len(before) + 1


async def test_replicas_cancel_an_order_once_and_unpaid_orders_in_time(
    module_broker_settings: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    url, timeout = postgres.create_database(), "5"
    async with (
        running(
            "order_service", module_broker_settings, tmp_path, DATABASE_URL=url, PAYMENT_TIMEOUT_SECONDS=timeout
        ) as one,
        running(
            "order_service", module_broker_settings, tmp_path, DATABASE_URL=url, PAYMENT_TIMEOUT_SECONDS=timeout
        ) as other,
        Wire.open(module_broker_settings) as wire,
    ):
        paid, order_id, late = [await place(one) for _ in range(3)]
        wire.send(examples.payment_succeeded(paid))
        await reaches(other, paid, "paid")
        answers = await asyncio.gather(*(cancel(each, order_id) for each in (one, other) * 10))
        assert [answer.status_code for answer in answers] == [202] * 20
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1

        await wire.event("orders", order_id, "order.cancelled.v1")
        event = await wire.event("orders", late, "order.cancelled.v1")
        assert isinstance(event, OrderCancelled)
        assert event.data.reason == "payment-timeout"
        assert [each.type for each in wire.messages("orders", late)] == ["order.placed.v1", "order.cancelled.v1"]
        await reaches(other, late, "cancelling")
        await reaches(one, paid, "paid")

        async def counted() -> bool:
            counts = [
                sum([await each.metric("orders_cancelled", reason=reason) for each in (one, other)])
                for reason in ("customer", "payment-timeout")
            ]
            return counts == [1, 1]

        await eventually(counted, expecting="each cancellation to be counted once")

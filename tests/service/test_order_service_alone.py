"""The order service without a broker, without a topology, and with a second replica beside it."""

import asyncio
from pathlib import Path

from shared.management import Management
from shared.settings import BrokerSettings
from shared.topology import provision
from tests import examples
from tests.conftest import Broker
from tests.postgres import PrivatePostgres
from tests.service.process import RunningService, running, running_alone
from tests.service.test_following_orders import BODY, place, reaches, stream
from tests.service.wire import Wire
from tests.support import eventually


async def problems(service: RunningService) -> str:
    answer = await service.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unavailable"
    return "; ".join(answer.json()["problems"])


async def test_orders_are_taken_while_the_broker_is_away(tmp_path: Path) -> None:
    async with running_alone("order_service", tmp_path) as service:
        answer = await service.http.post("/orders", json=BODY)
        assert answer.status_code == 202
        order = await service.http.get(answer.headers["location"])
        assert order.json()["status"] == "placed"

        await eventually(lambda: told_why(service), expecting="the reason")
        assert "s3cret" not in await problems(service)
        assert (await service.http.get("/livez")).json() == {"status": "ok", "problems": []}

        async def counted() -> bool:
            return await service.metric("outbox_pending") == 1

        await eventually(counted, expecting="the event to wait in the outbox")
    assert service.process.returncode == 0  # and it stopped in time, with the broker still away


async def told_why(service: RunningService) -> bool:
    return "RabbitMQ is away" in (told := await problems(service)) and "refused" in told.lower()


async def test_a_missing_topology_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    settings = BrokerSettings(
        rabbitmq_url=broker.amqp_url("not-applied-yet"), rabbitmq_management_url=broker.management_url
    )
    async with Management(settings) as management:
        await management.put("vhosts", settings.vhost, body={})
        try:
            async with running("order_service", settings, tmp_path, until="/livez") as service:

                async def names_what_is_missing() -> bool:
                    told = await problems(service)
                    return "order_service.track" in told and "exchange 'orders'" in told

                await eventually(names_what_is_missing, expecting="the queue and the exchange to be named")
                order_id = await place(service)

                await provision.apply(settings)

                await eventually(lambda: service.answers("/readyz", 200), 20, "the service to go on by itself")
                async with Wire.open(settings) as wire:
                    # The event may have left before this queue was bound; the service must follow its order anyway.
                    wire.send(examples.payment_declined(order_id))
                    await reaches(service, order_id, "declined")
        finally:
            await management.delete("vhosts", settings.vhost)


async def test_two_replicas_stream_the_same_order(
    module_broker_settings: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    url = postgres.create_database()
    async with (
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as first,
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as second,
        Wire.open(module_broker_settings) as wire,
        asyncio.timeout(40),
    ):

        async def follow(replica: RunningService, order_id: str) -> list[str]:
            async with stream(replica, order_id) as events:
                return [event.data["type"] async for event in events]

        for _ in range(4):  # either replica may get each event
            order_id = await place(first)
            following = [asyncio.create_task(follow(replica, order_id)) for replica in (first, second)]
            wire.send(examples.payment_succeeded(order_id))
            wire.send(examples.receipt_delivered(order_id))
            seen = await asyncio.gather(*following)

            assert seen[0] == seen[1]
            assert sorted(seen[0]) == ["notification.delivered.v1", "order.placed.v1", "payment.succeeded.v1"]


async def test_two_replicas_place_one_order_for_one_key(
    module_broker_settings: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    url = postgres.create_database()
    async with (
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as first,
        running("order_service", module_broker_settings, tmp_path, DATABASE_URL=url) as second,
    ):
        headers = {"Idempotency-Key": "the-same"}
        answers = await asyncio.gather(
            *(replica.http.post("/orders", json=BODY, headers=headers) for replica in (first, second) * 10)
        )

        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["order_id"] for answer in answers}) == 1
        assert len(await first.audit()) == 1

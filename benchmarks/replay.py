"""replay: what it costs to keep every event in a stream, and how fast the analytics are made anew from there.

`accept` and `drain` as elsewhere, without the stream and with it, one after the other; each round begins with the other
one. Then the events of 100,000 orders are written to a stream, as the services write them, and replayed into an empty
SQLite database.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL, Contender
from benchmarks.drain import drain
from benchmarks.load.run import place_for_a_while, place_many
from benchmarks.stage import MeasurementFailed
from control_room.analytics.follow import replay, totals_of
from control_room.analytics.store import AnalyticsStore
from shared.events import encode
from shared.ids import new_id
from shared.management import Management
from shared.messaging.message import Message
from shared.messaging.stream import StreamWriter
from shared.persistence.backlog import BATCH_ROWS
from shared.settings import BrokerSettings
from shared.topology import provision
from tests import examples

NAME = "replay"
WITHOUT, KEPT = "without a stream", "events kept"
CONTENDERS: Mapping[str, Contender] = {
    WITHOUT: replace(ORDER_RAIL, variables={"EVENTS_KEPT_HOURS": "0"}),
    KEPT: replace(ORDER_RAIL, variables={"EVENTS_KEPT_HOURS": "168"}),
}


async def measure_round(bench: Bench, round_number: int) -> None:
    """Without the stream and with it, then a replay."""
    for when in (WITHOUT, KEPT) if round_number % 2 == 0 else (KEPT, WITHOUT):
        await _accept(bench, when)
        await _drain(bench, when)
    await _replay(bench)


async def _accept(bench: Bench, when: str) -> None:
    bench.say(f"{NAME}: accept, {when}")
    async with bench.scene(CONTENDERS[when]) as scene:
        await scene.start_web()
        load = await place_for_a_while(scene, bench.scale)
        _late, seconds = await wait_for_arrival(scene, load.accepted)
    whole = bench.scale.warm_up_seconds + load.seconds + seconds
    bench.add(NAME, ORDER_RAIL.name, f"accept, {when}", "orders/s", load.rate)
    bench.add(NAME, ORDER_RAIL.name, f"accept to RabbitMQ, {when}", "orders/s", load.accepted / whole)


async def _drain(bench: Bench, when: str) -> None:
    bench.say(f"{NAME}: drain, {when}")
    async with bench.scene(CONTENDERS[when]) as scene:
        await scene.start_web()
        await place_many(scene, bench.scale, bench.scale.backlog)
        await wait_for_arrival(scene, bench.scale.backlog)
        await scene.start_workers()
        drained = await drain(scene, bench.scale.backlog)
    bench.add(NAME, ORDER_RAIL.name, f"drain, {when}", "orders/s", drained.rate)


async def _replay(bench: Bench) -> None:
    orders, broker = bench.scale.replayed, bench.stage.broker
    bench.say(f"{NAME}: the events of {orders:,} orders")
    settings = BrokerSettings(
        rabbitmq_url=broker.amqp_url(f"replay-{uuid.uuid4().hex[:8]}"),
        rabbitmq_management_url=broker.management_url,
        events_kept_hours=168,
    )
    await provision.apply(settings)
    await _fill(settings, orders)
    file = bench.directory / f"{settings.vhost}.db"
    store = AnalyticsStore(f"sqlite:///{file}")
    store.prepare()
    replayed = await replay(settings.rabbitmq_url, store, "first", lambda *_: None)
    confirmed = totals_of(store)["confirmed"]
    store.close()
    async with Management(settings) as management:
        await management.delete("vhosts", settings.vhost)
    if confirmed != orders:
        raise MeasurementFailed(f"{confirmed:,} of {orders:,} orders were counted")
    add = bench.add
    add(NAME, ORDER_RAIL.name, "replayed events", "events/s", replayed.events / replayed.seconds)
    add(NAME, ORDER_RAIL.name, f"replay of {orders:,} orders", "s", replayed.seconds)
    add(NAME, ORDER_RAIL.name, "database", "MiB", file.stat().st_size / 2**20)


async def _fill(settings: BrokerSettings, orders: int) -> None:
    """Write what the services write of orders that are paid and whose customer is notified."""
    writer = StreamWriter(settings.rabbitmq_url, "replay")
    await writer.start()
    try:
        for first in range(0, orders, BATCH_ROWS):
            events = [_events(new_id()) for _ in range(min(BATCH_ROWS, orders - first))]
            for batch in zip(*events, strict=True):
                if not await writer.write(batch):
                    raise MeasurementFailed("the stream did not take the events")
    finally:
        await writer.stop()


def _events(order_id: str) -> list[Message]:
    steps = (
        examples.order_placed, examples.payment_succeeded, examples.ticket_delivered, examples.receipt_delivered,
    )  # fmt: skip
    return [Message("", event.type, encode(event), message_id=event.id) for event in (step(order_id) for step in steps)]

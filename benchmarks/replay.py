"""replay: what it costs to keep every event in a stream, and how fast the analytics are made anew from there.

`accept` and `drain` as elsewhere, without the stream and with it, one after the other; each round begins with the other
one. In the first round 100,000 orders then go all the way through the system, and the stream that it has filled is
replayed into an empty SQLite database. After 20,000 others a consumer comes late, which takes no more of the processor
than the control room's, and catches up while further orders come in. The measurement fails unless both agree with an
audit on every order and all money.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL, Contender
from benchmarks.drain import drain
from benchmarks.load.run import place_for_a_while, place_many, run_program
from benchmarks.stage import MeasurementFailed, Scene
from control_room.analytics.check import differences
from control_room.analytics.follow import Analytics, replay
from control_room.analytics.store import AnalyticsStore
from control_room.background import running
from control_room.experiments.client import connected
from control_room.operations.audit import AuditReport
from shared.messaging.stream import end_of
from shared.waiting import poll

NAME = "replay"
WITHOUT, KEPT = "without a stream", "events kept"
AUDIT_SECONDS, AUDIT_CALL_SECONDS = 120.0, 60.0
CATCH_UP_SECONDS, LOOK_SECONDS = 60.0, 0.5
CONTENDERS: Mapping[str, Contender] = {
    WITHOUT: replace(ORDER_RAIL, variables={"EVENTS_KEPT_HOURS": "0"}),
    KEPT: replace(ORDER_RAIL, variables={"EVENTS_KEPT_HOURS": "168"}),
}


async def measure_round(bench: Bench, round_number: int) -> None:
    """Without the stream and with it, then, once, a replay."""
    for when in (WITHOUT, KEPT) if round_number % 2 == 0 else (KEPT, WITHOUT):
        await _accept(bench, when)
        await _drain(bench, when)
    if round_number == 0:
        await _replay(bench)
        await _follow_late(bench)


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


@asynccontextmanager
async def _filled(bench: Bench, orders: int) -> AsyncIterator[tuple[Scene, AuditReport]]:
    """A system that so many orders have gone through, with all their events in the stream, and its audit."""
    bench.say(f"{NAME}: {orders:,} orders through the system")
    async with bench.scene(CONTENDERS[KEPT]) as scene:
        await scene.start_web()
        await place_many(scene, bench.scale, orders)
        await scene.start_workers()
        await drain(scene, orders)
        yield scene, await _audited(scene, orders)


async def _replay(bench: Bench) -> None:
    orders = bench.scale.replayed
    async with _filled(bench, orders) as (scene, audited):
        bench.say(f"{NAME}: replay into an empty database")
        with _database(scene, "replayed") as store:
            replayed = await replay(scene.settings.rabbitmq_url, store, "first", lambda *_: None)
            _expect_agreement(store, audited)
        size = (scene.directory / "replayed.db").stat().st_size
    add = bench.add
    add(NAME, ORDER_RAIL.name, "replayed events", "events/s", replayed.events / replayed.seconds)
    add(NAME, ORDER_RAIL.name, f"replay of {orders:,} orders", "s", replayed.seconds)
    add(NAME, ORDER_RAIL.name, "replayed database", "bytes/order", size / orders)


async def _follow_late(bench: Bench) -> None:
    """The analytics begin at the first event while orders come in, as in a control room that is opened late.

    They are up to date once they have counted what the stream held before the latest seconds of load.
    """
    async with _filled(bench, bench.scale.late_orders) as (scene, _audit):
        bench.say(f"{NAME}: a late consumer, while {bench.scale.late_rate:g} orders/s come in")
        rabbitmq_url, placed = scene.settings.rabbitmq_url, 0
        with _database(scene, "late") as store:
            async with running(Analytics(rabbitmq_url, store).run(), "analytics"):
                began = time.perf_counter()
                while True:
                    end = await end_of(rabbitmq_url, "benchmarks")
                    placed += await _place(bench, scene)
                    if (position := store.progress().position) and position.offset >= (end or 0):
                        break
                seconds, events = time.perf_counter() - began, store.progress().events
                audited = await _audited(scene, bench.scale.late_orders + placed)

                async def agrees() -> bool:
                    return not differences(store, audited)

                await poll(agrees, within_seconds=CATCH_UP_SECONDS, every_seconds=LOOK_SECONDS)
                _expect_agreement(store, audited)
    add = bench.add
    add(NAME, ORDER_RAIL.name, "late consumer, up to date after", "s", seconds)
    add(NAME, ORDER_RAIL.name, "late consumer, counted", "events/s", events / seconds)
    add(NAME, ORDER_RAIL.name, "late consumer, placed meanwhile", "orders/s", placed / seconds)


async def _place(bench: Bench, scene: Scene) -> int:
    """Place orders at a steady rate for some seconds; how many there were."""
    rate, seconds = str(bench.scale.late_rate), str(bench.scale.late_seconds)
    load = json.loads(await run_program("benchmarks.load.open", scene.url, "--rate", rate, "--seconds", seconds))
    if load["refused"]:
        raise MeasurementFailed(f"{load['refused']} orders were refused")
    return len(load["due_at"])


async def _audited(scene: Scene, orders: int) -> AuditReport:
    """An audit that finds nothing wrong, of so many orders, all of them final."""
    async with connected(scene.addresses) as client:
        report = await client.audit_until_clean(AUDIT_SECONDS, timeout_seconds=AUDIT_CALL_SECONDS)
    if not report.is_final or report.counts["orders"] != orders:
        raise MeasurementFailed(f"{report.counts['orders']:,} of {orders:,} orders, {report.violations[:1] or 'clean'}")
    return report


@contextmanager
def _database(scene: Scene, name: str) -> Iterator[AnalyticsStore]:
    store = AnalyticsStore(f"sqlite:///{scene.directory / f'{name}.db'}")
    store.prepare()
    yield store
    store.close()


def _expect_agreement(store: AnalyticsStore, report: AuditReport) -> None:
    if found := differences(store, report):
        raise MeasurementFailed(f"the analytics do not agree with the audit: {'; '.join(found)}")

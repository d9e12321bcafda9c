"""Faults of the wire between the services and RabbitMQ: a proxy on it loses, cuts and delays what goes through."""

import asyncio
import time

from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from shared.messaging.connection import Connection

AWAY = ("RabbitMQ is away", "not consuming")
PUBLISHED = "order_rail_messages_published_total"
CUT_AFTER_BYTES = 20_123
"""Somewhere inside a frame."""
SLOW_CHUNK_SECONDS = 0.02
SLOW_HANDSHAKE_SECONDS = 5 * SLOW_CHUNK_SECONDS


async def blackhole(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Nothing arrives any more, either way, and nobody is told: only heartbeats show it."""
    lost_before = scene.wire.held_bytes
    marks.saw(f"{await scene.orders_in_flight()} when the wire went dead")
    marks.begin()
    scene.wire.blackhole()
    try:
        marks.saw(f"{await scene.until_unready(*AWAY)} while it was dead")
        await asyncio.sleep(fall.seconds)
    finally:
        scene.wire.heal()
        marks.end()
    marks.saw(f"{scene.wire.held_bytes - lost_before} bytes were lost")


async def lost_confirms(scene: Scene, _fall: Fall, marks: Marks) -> None:
    """What RabbitMQ says is lost, what it is told arrives: events are there, and nobody knows."""
    labels, lost_before = {"result": "outcomeunknown"}, scene.wire.held_bytes
    before = await scene.counter("order_service", PUBLISHED, labels)
    marks.begin()
    scene.wire.hold_answers()
    try:
        after = await scene.until_counted("order_service", PUBLISHED, labels, before + 1)
    finally:
        scene.wire.heal()
        marks.end()
    marks.saw(f"{scene.wire.held_bytes - lost_before} bytes from RabbitMQ were lost")
    marks.saw(f"of {after - before:g} events the order service could not know whether they had arrived")


async def cut(scene: Scene, _fall: Fall, marks: Marks) -> None:
    """A connection is reset in the middle of a frame."""
    before = scene.wire.resets
    marks.begin()
    scene.wire.reset_after_bytes = CUT_AFTER_BYTES

    async def was_cut() -> bool:
        return scene.wire.resets > before

    try:
        await scene.until(was_cut, "a connection to be cut")
    finally:
        scene.wire.reset_after_bytes = None
        marks.end()
    marks.saw(f"a connection was reset after {CUT_AFTER_BYTES} more bytes")


async def slow(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Each half kilobyte takes its time."""
    marks.begin()
    scene.wire.chunk_delay_seconds = SLOW_CHUNK_SECONDS
    try:
        seconds = await _handshake_seconds(scene)
        await asyncio.sleep(fall.seconds)
    finally:
        scene.wire.chunk_delay_seconds = 0.0
        marks.end()
    if seconds < SLOW_HANDSHAKE_SECONDS:
        raise NoEvidence(f"a connection was opened within {seconds:.3f} s")
    marks.saw(f"opening a connection took {seconds:.1f} s, and {await _handshake_seconds(scene):.1f} s afterwards")


async def _handshake_seconds(scene: Scene) -> float:
    began = time.monotonic()
    connection = await Connection.open(scene.system.broker_settings.rabbitmq_url, "chaos wire")
    seconds = time.monotonic() - began
    await connection.close()
    return seconds


WIRE = ("wire to rabbitmq",)
FAULTS = (
    Fault(Kind("wire-dead", WIRE, (0.5, 4), 18), "Nothing arrives any more, and nobody is told", blackhole),
    Fault(Kind("lost-confirms", WIRE, (0, 0), 15), "What RabbitMQ says is lost", lost_confirms),
    Fault(Kind("wire-cut", WIRE, (0, 0), 6), "A connection reset in the middle of a frame", cut),
    Fault(Kind("wire-slow", WIRE, (3, 8), 10), "Each half kilobyte takes its time", slow),
)

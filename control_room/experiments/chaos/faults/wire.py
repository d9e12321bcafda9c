"""Faults of the wire between the services and RabbitMQ: a proxy on it loses, cuts and delays what goes through."""

import asyncio
import time

from control_room.experiments.chaos.faults.broker import unreachable
from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import NoEvidence, SystemUnderTest
from control_room.operations.roles import ORDERS

WIRE = ("wire to rabbitmq",)
PUBLISHED = "order_rail_messages_published_total"
CUT_AFTER_BYTES = 20_123
"""Somewhere inside a frame."""
SLOW_CHUNK_SECONDS = 0.02
SLOW_HANDSHAKE_SECONDS = 5 * SLOW_CHUNK_SECONDS


@fault("wire-dead", WIRE, lasts_seconds=(0.5, 4), allowance_seconds=18)
async def dead(system: SystemUnderTest, injection: Injection) -> None:
    """Nothing arrives any more, either way; only missing heartbeats show it."""
    before = system.proxy.lost_bytes
    await unreachable(system, injection, system.proxy.blackhole, system.proxy.heal)
    injection.saw(f"{system.proxy.lost_bytes - before} bytes were lost")


@fault("lost-confirms", WIRE, allowance_seconds=15)
async def lost_confirms(system: SystemUnderTest, injection: Injection) -> None:
    """What RabbitMQ sends is lost, what is sent to it arrives: events are there, and their publisher can't know."""
    service, labels, lost_before = ORDERS.name, {"result": "unconfirmed"}, system.proxy.lost_bytes
    before = await system.counter(service, PUBLISHED, labels)
    async with injection.applied(system.proxy.hold_answers, system.proxy.heal):
        after = await system.counter(service, PUBLISHED, labels, before + 1)
    injection.saw(f"{system.proxy.lost_bytes - lost_before} bytes from RabbitMQ were lost")
    injection.saw(f"of {after - before:g} events {service} could not know whether they had arrived")


@fault("wire-cut", WIRE, allowance_seconds=6)
async def cut(system: SystemUnderTest, injection: Injection) -> None:
    """A connection reset in the middle of a frame."""
    before = system.proxy.resets
    async with injection.applied(lambda: system.proxy.cut_after(CUT_AFTER_BYTES), system.proxy.heal):
        await system.until(lambda: system.proxy.resets > before, "a connection to be cut")
    injection.saw(f"a connection was reset after {CUT_AFTER_BYTES} more bytes")


@fault("wire-slow", WIRE, lasts_seconds=(3, 8), allowance_seconds=10)
async def slow(system: SystemUnderTest, injection: Injection) -> None:
    """Each half kilobyte takes 20 ms."""
    async with injection.applied(lambda: system.proxy.slow_down(SLOW_CHUNK_SECONDS), system.proxy.heal):
        seconds = await _handshake_seconds(system)
        await asyncio.sleep(injection.seconds)
    if seconds < SLOW_HANDSHAKE_SECONDS:
        raise NoEvidence(f"a connection was opened within {seconds:.3f} s")
    injection.saw(f"opening a connection took {seconds:.1f} s, and {await _handshake_seconds(system):.1f} s afterwards")


async def _handshake_seconds(system: SystemUnderTest) -> float:
    began = time.monotonic()
    async with system.client.channel():
        return time.monotonic() - began

"""Faults of the payment gateway, the outside system that moves the money."""

import asyncio

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import SystemUnderTest
from control_room.operations.roles import PAYMENTS

DEGRADED = "order_rail_degraded"
UNTIL_ENDED_SECONDS = 3600


@fault("gateway-down", ("simulated gateway",), lasts_seconds=(2, 5), allowance_seconds=7)
async def gateway_down(system: SystemUnderTest, injection: Injection) -> None:
    """Every call to the gateway fails; orders and cancellations wait, and spend no attempt."""

    async def set_outage(seconds: int) -> None:
        await system.until(lambda: system.client.gateway_outage(seconds), "the payment service to be told of it")

    async with injection.applied(lambda: set_outage(UNTIL_ENDED_SECONDS), lambda: set_outage(0)):
        await system.counter(PAYMENTS.name, DEGRADED, {}, 1)
        injection.saw(f"{PAYMENTS.name} paused, for the gateway was down; {await system.orders_in_flight()}")
        await asyncio.sleep(injection.seconds)
    await system.until(
        lambda: system.client.metric(PAYMENTS.name, DEGRADED),
        f"{PAYMENTS.name} to go on",
        is_seen=lambda value: not value,
    )
    injection.saw("it went on once the gateway was back")

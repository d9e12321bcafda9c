"""What the payment service makes of a gateway that does not answer."""

from pathlib import Path

import pytest

from payment_service.app import Settings
from payment_service.contract import CONTRACT
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.handlers import Charging
from shared.messaging.retry import OutcomeUnknown
from tests import examples
from tests.support import start_ready


async def test_an_answer_that_does_not_come_is_awaited_for_a_limited_time(tmp_path: Path) -> None:
    gateway = SimulatedGateway(f"sqlite:///{tmp_path / 'gateway.db'}", latency_seconds=3600)
    await start_ready(gateway)
    try:
        with pytest.raises(OutcomeUnknown, match=r"no answer from the gateway within 0\.05 s"):
            await Charging(gateway, 0.05, examples.order_placed()).perform(1)
        assert await gateway.audit_source.page(None) == []
    finally:
        await gateway.stop()


def test_a_charge_keeps_to_the_time_of_an_attempt() -> None:
    assert Settings().answer_seconds < CONTRACT.queue("charge").attempt_seconds


def test_a_gateway_that_is_told_to_be_slow_is_waited_for() -> None:
    assert Settings(gateway_latency_seconds=60).answer_seconds > 60 * 1.25

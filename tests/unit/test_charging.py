"""The payment service and a gateway that does not answer."""

from pathlib import Path

import pytest

from payment_service.app import Settings
from payment_service.contract import CONTRACT
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.handlers import Charging
from shared.messaging.retry import OutcomeUnknown
from tests import examples
from tests.support import ready


async def test_a_missing_answer_is_waited_for_a_limited_time(tmp_path: Path) -> None:
    async with ready(SimulatedGateway(f"sqlite:///{tmp_path / 'gateway.db'}", latency_seconds=3600)) as gateway:
        with pytest.raises(OutcomeUnknown, match=r"no answer from the gateway within 0\.05 s"):
            await Charging(gateway, 0.05, examples.order_placed()).perform(1)
        assert await gateway.audit_source.page(None) == []


def test_the_limit_is_within_an_attempt_and_longer_than_a_slow_gateway_takes() -> None:
    assert Settings().answer_seconds < CONTRACT.queue("charge").attempt_seconds
    assert Settings(gateway_latency_seconds=60).answer_seconds > 60 * 1.25

"""The payment service and a gateway that does not answer."""

from pathlib import Path

import pytest

from payment_service.app import Settings
from payment_service.contract import CONTRACT
from payment_service.gateways.guarded import GuardedGateway
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated.store import metadata
from payment_service.handlers import Paying
from shared.breaker import FAILURES
from shared.messaging.retry import NoAnswer, NotReady
from tests import examples
from tests.support import create_tables, ready


async def test_a_missing_answer_is_waited_for_a_limited_time_and_a_few_of_them_pause_all_charges(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    create_tables(url, metadata)
    simulated = SimulatedGateway(url, latency_seconds=3600)
    async with ready(GuardedGateway(simulated, 0.05)) as gateway:
        for expected in [NoAnswer] * (FAILURES - 1) + [NotReady] * 2:
            with pytest.raises(expected, match=r"no answer within 0\.05 s") as caught:
                await Paying(gateway, examples.order_placed()).perform(None, 1)
            assert type(caught.value) is expected
        assert "the payment gateway" in (gateway.breaker.degraded() or "")
        assert await gateway.audit_source.page(None) == []


def test_the_limit_is_within_an_attempt_and_longer_than_a_slow_gateway_takes() -> None:
    assert Settings().answer_seconds < CONTRACT.queue("charge").attempt_seconds
    assert Settings(gateway_latency_seconds=60).answer_seconds > 60 * 1.25

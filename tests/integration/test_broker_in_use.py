"""Whether somebody consumes is known at once: a second system may be started in the same moment as the first."""

import pika
import pytest

from control_room.launcher import broker_in_use
from control_room.launcher.broker_in_use import BrokerInUse, until_nobody_consumes
from shared.settings import BrokerSettings
from tests.conftest import Broker, virtual_host

QUEUE = "payment_service.charge"


def consuming(settings: BrokerSettings, queue: str) -> pika.BlockingConnection:
    connection = pika.BlockingConnection(pika.URLParameters(settings.rabbitmq_url))
    connection.channel().basic_consume(queue, lambda *_: None)
    return connection


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_in_use, "GRACE_SECONDS", 1.0)


async def test_a_consumer_is_seen_the_moment_it_is_there(module_broker_settings: BrokerSettings) -> None:
    connection = consuming(module_broker_settings, QUEUE)
    said: list[str] = []
    with pytest.raises(BrokerInUse, match=r"payment_service\.charge \(1\)\. A second one") as refused:
        await until_nobody_consumes(module_broker_settings, said.append)
    assert refused.value.consumers == {QUEUE: 1}
    assert len(said) == 1
    connection.close()
    await until_nobody_consumes(module_broker_settings, said.append)


async def test_one_who_looks_at_dead_letters_is_no_other_system(module_broker_settings: BrokerSettings) -> None:
    connection = consuming(module_broker_settings, f"{QUEUE}.dead")
    await until_nobody_consumes(module_broker_settings, pytest.fail)
    connection.close()


async def test_nobody_consumes_where_nothing_is_yet(broker: Broker) -> None:
    nowhere = BrokerSettings(rabbitmq_url=broker.amqp_url("no-such-virtual-host"))
    await until_nobody_consumes(nowhere, pytest.fail)
    async with virtual_host(broker) as empty:
        await until_nobody_consumes(empty, pytest.fail)

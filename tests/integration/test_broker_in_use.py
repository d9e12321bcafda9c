"""A broker on which no service consumes is free for a system; `test_launcher.py` shows that a used one is refused."""

import pika
import pytest

from control_room.launcher.broker_in_use import until_nobody_consumes
from shared.settings import BrokerSettings
from tests.conftest import Broker, virtual_host


async def test_one_who_looks_at_dead_letters_is_no_other_system(module_broker_settings: BrokerSettings) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(module_broker_settings.rabbitmq_url))
    connection.channel().basic_consume("payment_service.charge.dead", lambda *_: None)
    await until_nobody_consumes(module_broker_settings, pytest.fail)
    connection.close()


async def test_nobody_consumes_where_nothing_is_yet(broker: Broker) -> None:
    nowhere = BrokerSettings(rabbitmq_url=broker.amqp_url("no-such-virtual-host"))
    await until_nobody_consumes(nowhere, pytest.fail)
    async with virtual_host(broker) as empty:
        await until_nobody_consumes(empty, pytest.fail)

"""The topology as data: what must hold of it whatever the broker."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings import BrokerSettings
from shared.topology import Queue, Topology, dead_queue, retry_queue, topology

EMAIL = "notification_service.email"
MAIN_QUEUES = [
    "payment_service.charge",
    "notification_service.email",
    "notification_service.sms",
    "notification_service.restaurant",
    "order_service.track",
]


def every(delays_seconds: Sequence[float]) -> Callable[[str], Sequence[float]]:
    """The same delays for each queue."""
    return lambda _queue: delays_seconds


def queue_of(whole: Topology, name: str) -> Queue:
    return next(queue for queue in whole.queues if queue.name == name)


def test_a_retry_queue_is_named_after_its_delay() -> None:
    assert retry_queue("payment_service.charge", 1.0) == "payment_service.charge.retry.1s"
    assert retry_queue("payment_service.charge", 0.2) == "payment_service.charge.retry.0.2s"
    assert dead_queue("payment_service.charge") == "payment_service.charge.dead"


@pytest.mark.parametrize("name", MAIN_QUEUES)
def test_every_queue_has_a_dead_letter_queue_and_one_retry_queue_per_delay(name: str) -> None:
    names = {queue.name for queue in topology(every((1.0, 5.0))).queues if queue.name.startswith(name)}

    assert names == {name, f"{name}.retry.1s", f"{name}.retry.5s", f"{name}.dead"}


def test_each_queue_has_the_retry_queues_of_its_own_delays() -> None:
    settings = BrokerSettings.model_validate(
        {"retry_delays_seconds": (2.0,), "email_retry_delays_seconds": (1.0, 60.0, 60.0)}
    )

    names = [queue.name for queue in topology(settings.retry_delays_of).queues if ".retry." in queue.name]

    others = [f"{queue}.retry.2s" for queue in MAIN_QUEUES if queue != EMAIL]
    assert sorted(names) == sorted([*others, f"{EMAIL}.retry.1s", f"{EMAIL}.retry.60s"])


def test_a_retry_queue_gives_its_messages_back_after_its_delay() -> None:
    arguments = queue_of(topology(every((0.25,))), "order_service.track.retry.0.25s").arguments

    assert arguments["x-message-ttl"] == 250
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == ("", "order_service.track")


def test_every_queue_that_dead_letters_loses_nothing_on_the_way() -> None:
    for queue in topology(every((1.0,))).queues:
        if "x-dead-letter-routing-key" in queue.arguments:
            assert queue.arguments["x-dead-letter-strategy"] == "at-least-once", queue
            assert queue.arguments["x-overflow"] == "reject-publish", queue  # at-least-once is ignored without it


def test_every_binding_takes_versions_to_come() -> None:
    assert all(binding.routing_key.endswith((".*", ".#")) for binding in topology(every(())).bindings)


def test_every_binding_joins_an_exchange_and_a_queue_of_the_topology() -> None:
    whole = topology(every((1.0,)))

    assert {binding.exchange for binding in whole.bindings} <= {exchange.name for exchange in whole.exchanges}
    assert {binding.queue for binding in whole.bindings} == set(MAIN_QUEUES)


def test_a_service_may_read_its_own_queues_and_write_to_its_own_exchange() -> None:
    users = {user.name: user for user in topology(every(())).users}
    payment = users["payment_service"]

    assert set(users) == {"order_service", "payment_service", "notification_service"}
    assert re.search(payment.read, "payment_service.charge")
    assert not re.search(payment.read, "payment_serviceXcharge")
    assert not any(re.search(payment.read, queue) for queue in MAIN_QUEUES if queue != "payment_service.charge")
    assert re.search(payment.write, "payments")
    assert re.search(payment.write, "amq.default")
    assert not re.search(payment.write, "orders")
    assert all(user.configure == "^$" for user in users.values())


def test_without_controls_nothing_of_them_exists() -> None:
    exchanges = {exchange.name for exchange in topology(every(())).exchanges}

    assert {exchange.name for exchange in topology(every(()), controls=True).exchanges} - exchanges == {"control"}
    assert not any(re.search(user.read, "control") for user in topology(every(())).users)


def test_with_controls_a_service_may_hear_of_them_and_tell_nobody() -> None:
    private = "amq.gen-JzTY20BRgKO-HjmUJj0wLg"

    for user in topology(every(()), controls=True).users:
        assert re.search(user.read, "control")
        assert not re.search(user.write, "control")
        assert all(re.search(right, private) for right in user.permissions.values())
        assert not any(re.search(user.configure, queue) for queue in (*MAIN_QUEUES, "mine"))


@given(st.lists(st.floats(min_value=0.000001, max_value=86400)))
def test_whatever_the_delays_every_name_appears_once_and_no_time_to_live_is_zero(delays_seconds: list[float]) -> None:
    queues = topology(every(delays_seconds)).queues

    assert all(first != second for first, second in pairwise(sorted(queue.name for queue in queues)))
    assert all(int(queue.arguments.get("x-message-ttl", 1)) >= 1 for queue in queues)

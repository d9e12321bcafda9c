"""The topology as data: what must hold of it whatever the broker."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract import queues
from shared.settings import BrokerSettings
from shared.topology import Binding, Exchange, Policy, Queue, ServiceUser, topology
from tests.support import DELAYS_VARIABLES, SERVICES

EMAIL = "notification_service.email"
MAIN_QUEUES = [
    "payment_service.charge",
    "notification_service.email",
    "notification_service.sms",
    "notification_service.push",
    "notification_service.restaurant",
    "order_service.track",
]
PRIVATE = "amq.gen-JzTY20BRgKO-HjmUJj0wLg"
Kind = TypeVar("Kind")


def items(kind: type[Kind], delays_seconds: Sequence[float] = (), *, controls: bool = False) -> list[Kind]:
    """Those of this kind, with the same delays for each queue, and a user for each service."""
    whole = topology(lambda _queue: delays_seconds, controls=controls, passwords=dict.fromkeys(SERVICES, "secret"))
    return [item for item in whole if isinstance(item, kind)]


def allowed(user: ServiceUser, right: str, names: Iterable[str]) -> set[str]:
    return {name for name in names if re.search(user.permissions[right], name)}


@pytest.mark.parametrize("name", MAIN_QUEUES)
def test_every_queue_has_a_dead_letter_queue_and_one_retry_queue_per_delay(name: str) -> None:
    names = {queue.name for queue in items(Queue, (1.0, 0.2)) if queue.name.startswith(name)}
    assert names == {name, f"{name}.retry.1s", f"{name}.retry.0.2s", f"{name}.dead"}


def test_each_queue_has_the_retry_queues_of_its_own_delays() -> None:
    settings = BrokerSettings.model_validate(
        {name.lower(): (1.0, 60.0, 60.0) if name.startswith("EMAIL") else (2.0,) for name in DELAYS_VARIABLES}
    )
    whole = topology(settings.retry_delays_of)

    names = [item.name for item in whole if isinstance(item, Queue) and ".retry." in item.name]

    others = [f"{queue}.retry.2s" for queue in queues() if queue != EMAIL]
    assert sorted(names) == sorted([*others, f"{EMAIL}.retry.1s", f"{EMAIL}.retry.60s"])


def test_every_queue_that_dead_letters_loses_nothing_on_the_way() -> None:
    for queue in items(Queue, (1.0,)):
        if "x-dead-letter-routing-key" in queue.arguments:
            assert queue.arguments["x-dead-letter-strategy"] == "at-least-once", queue
            assert queue.arguments["x-overflow"] == "reject-publish", queue  # at-least-once is ignored without it


def test_every_binding_joins_an_exchange_and_a_queue_and_takes_versions_to_come() -> None:
    bindings = items(Binding)

    assert {binding.exchange for binding in bindings} <= {exchange.name for exchange in items(Exchange)}
    assert {binding.queue for binding in bindings} == set(queues())
    assert all(binding.routing_key.endswith((".*", ".#")) for binding in bindings)


def test_a_service_may_read_its_own_queues_and_write_to_its_own_exchange() -> None:
    users = {user.name: user for user in items(ServiceUser)}
    payment = users["payment_service"]

    assert set(users) == set(SERVICES)
    assert allowed(payment, "read", [*MAIN_QUEUES, "payment_serviceXcharge"]) == {"payment_service.charge"}
    assert allowed(payment, "write", ["payments", "amq.default", "orders"]) == {"payments", "amq.default"}
    assert all(user.permissions["configure"] == "^$" for user in users.values())


@pytest.mark.parametrize("controls", [False, True])
def test_a_service_may_hear_of_controls_where_they_are_enabled_and_tell_nobody(controls: bool) -> None:
    names = {"control", PRIVATE} if controls else set()

    assert ("control" in {exchange.name for exchange in items(Exchange, controls=controls)}) is controls
    for user in items(ServiceUser, controls=controls):
        assert allowed(user, "read", ["control", PRIVATE]) == names
        assert allowed(user, "write", ["control", PRIVATE]) == names - {"control"}
        assert allowed(user, "configure", [*MAIN_QUEUES, "mine", "control", PRIVATE]) == names - {"control"}


def test_a_stream_keeps_events_and_is_bound_to_nothing() -> None:
    whole = topology(lambda _queue: (), events_kept_hours=24, events_kept_bytes=500_000_000)
    (stream,) = (item for item in whole if isinstance(item, Queue) and item.arguments["x-queue-type"] == "stream")
    (policy,) = (item for item in whole if isinstance(item, Policy))

    assert stream.name == policy.queue == "events"
    assert policy.definition == {"max-age": "24h", "max-length-bytes": 500_000_000}
    assert not [item for item in whole if isinstance(item, Binding) and item.queue == "events"]
    assert [item for item in whole if item not in (stream, policy)] == list(topology(lambda _queue: ()))


@given(st.lists(st.floats(min_value=0.000001, max_value=86400)))
def test_whatever_the_delays_every_name_appears_once_and_no_time_to_live_is_zero(delays_seconds: list[float]) -> None:
    queues = items(Queue, delays_seconds)

    assert len({queue.name for queue in queues}) == len(queues)
    assert all(int(queue.arguments.get("x-message-ttl", 1)) >= 1 for queue in queues)

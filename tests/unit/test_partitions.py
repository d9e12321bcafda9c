"""Partitions as data: what a contract may say, what the broker should hold for it, and the keys of events."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared import contract
from shared.contract import ContractError, Partitions, Pattern, QueueContract
from shared.events import OrderCancelled, OrderPlaced, encode
from shared.messaging.keys import keys_of
from shared.topology import Binding, Exchange, Queue, ServiceUser, topology
from tests import examples
from tests.partitioned import CONTRACT, PARTITIONS, QUEUE, registered

CUSTOMER = "key.data.order.customer_email"


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


def with_queue(takes: tuple[type[OrderPlaced] | Pattern, ...], partitions: Partitions) -> contract.ServiceContract:
    return replace(CONTRACT, queues=(QueueContract("count", "", takes=takes, partitions=partitions),))


@pytest.mark.parametrize(
    ("takes", "partitions", "error"),
    [
        ((OrderPlaced,), Partitions(0, "subject"), "visits_service.count has 0 partitions; expected at least 1"),
        ((OrderPlaced,), Partitions(2, "restaurant"), "order.placed.v1 has no value 'restaurant'"),
        ((OrderPlaced,), Partitions(2, "data.order"), "order.placed.v1 has no value 'data.order'"),
        ((OrderPlaced,), Partitions(2, "subject.id"), "order.placed.v1 has no value 'subject.id'"),
        ((Pattern("orders", "order.#"),), Partitions(2, "subject"), "takes 'order.#' and has partitions"),
    ],
)
def test_a_key_that_its_events_do_not_have_is_refused(
    takes: tuple[type[OrderPlaced] | Pattern, ...], partitions: Partitions, error: str
) -> None:
    with pytest.raises(ContractError, match=re.escape(error)):
        contract.checked([*contract.services()[:-1], with_queue(takes, partitions)])


def test_each_partition_is_a_queue_with_one_active_consumer_and_dead_letters_and_without_retry_queues() -> None:
    queues = {item.name: item.arguments for item in topology(lambda _queue: (1.0,)) if isinstance(item, Queue)}

    ours = {name for name in queues if name.startswith(QUEUE)}

    assert ours == {*PARTITIONS, *(f"{name}.dead" for name in PARTITIONS)}
    assert [queues[name]["x-single-active-consumer"] for name in PARTITIONS] == [True] * 4
    assert "x-single-active-consumer" not in queues["payment_service.charge"]
    assert [queues[name]["x-dead-letter-routing-key"] for name in PARTITIONS] == [f"{name}.dead" for name in PARTITIONS]


def test_an_exchange_that_hashes_the_key_stands_before_the_partitions() -> None:
    items = topology(lambda _queue: (1.0,), passwords={CONTRACT.name: "secret"})

    assert Exchange(QUEUE, "x-consistent-hash", {"hash-header": CUSTOMER}) in items
    assert Binding("orders", QUEUE, "order.placed.*", to_exchange=True) in items
    assert [Binding(QUEUE, name, "1") in items for name in PARTITIONS] == [True] * 4
    (user,) = [item for item in items if isinstance(item, ServiceUser)]
    assert re.search(user.permissions["read"], f"{QUEUE}.3")
    assert not re.search(user.permissions["read"], f"{QUEUE}.4")


def test_each_partition_is_a_queue_for_all_that_looks_at_queues() -> None:
    titles = {name: queue.title for name, queue in contract.queues().items() if name.startswith(QUEUE)}

    assert titles == {name: f"Visits to be counted, {number}" for number, name in enumerate(PARTITIONS)}
    assert {contract.service_of(name).name for name in titles} == {CONTRACT.name}


def test_an_event_has_the_keys_that_the_queues_which_take_it_ask_for() -> None:
    placed, cancelled = examples.order_placed(email="eve@example.com"), examples.order_cancelled()

    assert keys_of(placed.type, encode(placed)) == {CUSTOMER: "eve@example.com"}
    assert keys_of("order.placed.v2", encode(placed)) == {CUSTOMER: "eve@example.com"}  # the binding takes it as well
    assert keys_of(OrderCancelled.type_name(), encode(cancelled)) == {}


@pytest.mark.parametrize("data", [None, {}, {"order": []}, {"order": {"customer_email": None}}])
def test_an_event_without_a_value_there_has_no_key(data: object) -> None:
    assert keys_of(OrderPlaced.type_name(), json.dumps({"data": data}).encode()) == {}


def test_where_no_queue_has_partitions_no_body_is_read() -> None:
    assert keys_of(OrderCancelled.type_name(), b"no JSON") == {}

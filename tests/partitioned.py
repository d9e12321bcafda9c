"""The example service with partitions, registered beside the others for as long as a module's tests run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import pytest

from shared import contract
from shared.events import encode
from shared.messaging.keys import keys_of
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from tests import examples
from visits_service import contract as visits

EXAMPLES = Path(__file__).parent / "examples/services"
CONTRACT = visits.CONTRACT
QUEUE = CONTRACT.queue_name("count")
PARTITIONS = CONTRACT.queue_names

_is_registered: ContextVar[bool] = ContextVar("is_registered", default=False)


def register(directory: Path, *services: str, found_in: Path = EXAMPLES) -> dict[str, str]:
    """The registry lines, as an installed distribution has them; returns the environment in which all are found."""
    distribution = directory / f"{services[0]}-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {services[0]}\nVersion: 1.0\n")
    lines = "".join(f"{service} = {service}.contract:CONTRACT\n" for service in services)
    (distribution / "entry_points.txt").write_text(f"[order_rail.services]\n{lines}")
    return {"PYTHONPATH": os.pathsep.join((str(directory), str(found_in)))}


@contextmanager
def registered() -> Iterator[None]:
    """The example is one of the registered services, for all that begins in the block.

    A control room that reads a system for the whole session goes on as if it were not.
    """
    ours = contract.services
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "services", lambda: (*ours(), CONTRACT) if _is_registered.get() else ours())
        _is_registered.set(True)
        contract.partitions_taking.cache_clear()
        yield
        _is_registered.set(False)
    contract.partitions_taking.cache_clear()


async def place(publisher: Publisher, customers: list[str]) -> list[str]:
    """Publish an order of each of these customers, one after the other, as an outbox does; the ids of the orders."""
    events = [examples.order_placed(email=customer) for customer in customers]
    bodies = [encode(event) for event in events]
    outcomes = await publisher.publish_all(
        [
            Message("orders", event.type, body, event.id, event.type, headers=keys_of(event.type, body))
            for event, body in zip(events, bodies, strict=True)
        ]
    )
    assert outcomes == [None] * len(events)
    return [event.subject for event in events]

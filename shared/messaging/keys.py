"""The keys of an event, by which RabbitMQ puts its message into one of the partitions of a queue."""

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any

from shared.contract import partitions_taking


def keys_of(event_type: str, body: bytes) -> Mapping[str, str]:
    """A header for each key that the partitioned queues of this event ask for; none where there are no such queues.

    Read from the body, since the outbox keeps nothing else: the consumers of an event may change while it waits.
    """
    partitions = partitions_taking(event_type)
    if not partitions:
        return {}
    event = json.loads(body)
    values = {each.header: _value(event, each.key) for each in partitions}
    return {header: str(value) for header, value in values.items() if value is not None}


def _value(event: Any, path: str) -> Any:
    return reduce(lambda value, name: value.get(name) if isinstance(value, dict) else None, path.split("."), event)

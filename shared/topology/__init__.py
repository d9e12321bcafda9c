"""Exchanges, queues, bindings, retry and dead-letter queues, users and permissions, as data.

`provision.py` puts them in place. It is not imported here: services need the names alone, and an HTTP client would make
each start of theirs longer.
"""

from shared.topology.definition import (
    Binding,
    Exchange,
    Queue,
    ServiceUser,
    Topology,
    VirtualHost,
    dead_queue,
    retry_queue,
    topology,
)

__all__ = [
    "Binding",
    "Exchange",
    "Queue",
    "ServiceUser",
    "Topology",
    "VirtualHost",
    "dead_queue",
    "retry_queue",
    "topology",
]

"""Exchanges, queues, bindings, retry and dead-letter queues, users and permissions: as data, and `apply`."""

from shared.management import ManagementDenied, ManagementRefused, ManagementUnavailable, TopologyError
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
from shared.topology.provision import Difference, Differs, TopologyDiffers, apply, difference, keep

__all__ = [
    "Binding",
    "Difference",
    "Differs",
    "Exchange",
    "ManagementDenied",
    "ManagementRefused",
    "ManagementUnavailable",
    "Queue",
    "ServiceUser",
    "Topology",
    "TopologyDiffers",
    "TopologyError",
    "VirtualHost",
    "apply",
    "dead_queue",
    "difference",
    "keep",
    "retry_queue",
    "topology",
]

"""The faults, by name, a file for each part that can fail."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from control_room.experiments.chaos.containers import ComposedSystem
from control_room.experiments.chaos.faults import (
    broker,
    containers,
    crashes,
    databases,
    gateway,
    machine,
    messages,
    nodes,
    services,
    topology,
    wire,
)
from control_room.experiments.chaos.faults.fault import Fault, Injection
from control_room.experiments.chaos.system import SystemUnderTest


def _of(parts: Iterable[ModuleType]) -> dict[str, Fault[Any]]:
    return {each.name: each for part in parts for each in vars(part).values() if isinstance(each, Fault)}


FAULTS: dict[str, Fault[SystemUnderTest]] = _of(
    (services, crashes, machine, databases, gateway, broker, nodes, topology, wire, messages)
)
IN_CONTAINERS: dict[str, Fault[ComposedSystem]] = {
    **_of((containers, nodes)),
    broker.connections_closed.name: broker.connections_closed,
}
"""Those for a system that `docker compose` runs."""

__all__ = ["FAULTS", "IN_CONTAINERS", "Fault", "Injection"]

"""The faults, by name, a file for each part that can fail."""

from control_room.experiments.chaos.faults import (
    broker,
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

FAULTS: dict[str, Fault] = {
    each.name: each
    for part in (services, crashes, machine, databases, gateway, broker, nodes, topology, wire, messages)
    for each in vars(part).values()
    if isinstance(each, Fault)
}

__all__ = ["FAULTS", "Fault", "Injection"]

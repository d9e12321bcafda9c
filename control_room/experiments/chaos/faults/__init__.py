"""The faults, by name. Each is a function that injects it, holds it, ends it, and says what showed it to be real."""

from control_room.experiments.chaos.faults import (
    broker,
    crashes,
    databases,
    machine,
    messages,
    services,
    topology,
    wire,
)
from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene

FAULTS: dict[str, Fault] = {
    fault.kind.name: fault
    for family in (services, crashes, machine, databases, broker, topology, wire, messages)
    for fault in family.FAULTS
}

__all__ = ["FAULTS", "Fault", "Marks", "NoEvidence", "Scene"]

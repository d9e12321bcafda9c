"""The faults, by name. Each is a function that injects it, holds it, ends it, and says what showed it to be real."""

from control_room.chaos.faults import broker, databases, messages, services
from control_room.chaos.faults.scene import Fault, Marks, NoEvidence, Scene

FAULTS: dict[str, Fault] = {
    fault.kind.name: fault for fault in (*services.FAULTS, *broker.FAULTS, *messages.FAULTS, *databases.FAULTS)
}

__all__ = ["FAULTS", "Fault", "Marks", "NoEvidence", "Scene"]

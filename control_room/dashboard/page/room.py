"""What all viewers share: the system's addresses, and what watches the system in the background."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

from control_room.dashboard.process_control import ProcessControl
from control_room.dashboard.snapshots.dead_letters import DeadLetterView
from control_room.dashboard.snapshots.observer import Observer
from control_room.launcher.processes import SupervisedProcess
from control_room.operations.addresses import SystemAddresses
from shared.contract import ServiceContract

Kind = TypeVar("Kind")


@dataclass
class Room:
    """`journal`: the file of discarded dead letters. `control` is None where services can't be stopped from here.

    `processes` of the services that this process has started. `public_urls`: where browsers reach a service, by its
    name, if that is not its address. `on_pruned`: called with the moment up to which the system is pruned.
    `parts`: what the panels keep here, by type.
    """

    addresses: SystemAddresses
    journal: Path
    observer: Observer
    dead_letters: DeadLetterView
    control: ProcessControl | None = None
    processes: Mapping[str, SupervisedProcess] = field(default_factory=dict)
    public_urls: Mapping[str, str] = field(default_factory=dict)
    on_pruned: list[Callable[[datetime], Awaitable[None]]] = field(default_factory=list)
    parts: dict[type, object] = field(default_factory=dict)

    def part(self, kind: type[Kind]) -> Kind:
        """What a panel keeps here of this type."""
        return cast(Kind, self.parts[kind])

    def page_url(self, service: ServiceContract) -> str:
        """Where browsers reach the page of a service that has one."""
        path = service.page.path if service.page else ""
        return (self.public_urls.get(service.name) or self.addresses.services[service.name]) + path

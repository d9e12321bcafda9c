"""Opens a room: starts what watches the system in the background."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

from control_room.background import running
from control_room.dashboard.page.panels import PANELS
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ProcessControl
from control_room.dashboard.snapshots.dead_letters import DeadLetterView
from control_room.dashboard.snapshots.observer import Observer
from control_room.launcher.processes import SupervisedProcess
from control_room.operations.addresses import SystemAddresses
from control_room.operations.prune import RetentionSettings
from control_room.operations.prune.hourly import prune_hourly


@asynccontextmanager
async def opened(
    addresses: SystemAddresses,
    journal: Path,
    observer: Observer,
    control: ProcessControl | None = None,
    processes: Mapping[str, SupervisedProcess] | None = None,
    public_urls: Mapping[str, str] | None = None,
) -> AsyncIterator[Room]:
    """A room whose tasks run until the block ends; its arguments are those of `Room`.

    Reads RETAIN_DAYS, and the variables of the panels.
    """
    dead_letters = DeadLetterView(addresses, journal, lambda: observer.snapshot.dead_letters, observer.pace)
    room = Room(addresses, journal, observer, dead_letters, control, processes or {}, public_urls or {})

    async def pruned(before: datetime) -> None:
        for told in room.on_pruned:
            await told(before)

    async with AsyncExitStack() as stack:
        for panel in PANELS:
            if panel.opened is not None:
                part = await stack.enter_async_context(panel.opened(room))
                room.parts[type(part)] = part
        await stack.enter_async_context(running(dead_letters.run(), "dead letters"))
        await stack.enter_async_context(
            running(prune_hourly(addresses, RetentionSettings(), journal, pruned), "pruning")
        )
        yield room

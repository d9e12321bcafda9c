"""What all viewers share: the system's addresses, and the background tasks that watch the system."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from control_room.analytics.follow import Analytics
from control_room.analytics.settings import AnalyticsSettings
from control_room.analytics.store import AnalyticsStore
from control_room.background import running
from control_room.dashboard.process_control import ProcessControl
from control_room.dashboard.snapshots.auditing import Auditing
from control_room.dashboard.snapshots.dead_letters import DeadLetterView
from control_room.dashboard.snapshots.observer import Observer
from control_room.experiments.scenarios import MailRoute, Runner, Target
from control_room.operations.addresses import SystemAddresses
from control_room.operations.prune import RetentionSettings
from control_room.operations.prune.hourly import prune_hourly
from control_room.operations.roles import ORDERS


@dataclass(frozen=True)
class Room:
    """`control` is None where services can't be stopped from here. `shop_url`: where people reach the shop.

    `runner` plays scenarios; `questing` follows a quest, during which scenarios can be played too.

    `analytics` is None where no events are kept.
    """

    addresses: SystemAddresses
    observer: Observer
    auditing: Auditing
    dead_letters: DeadLetterView
    runner: Runner
    questing: Runner
    control: ProcessControl | None
    shop_url: str
    analytics: Analytics | None


@asynccontextmanager
async def opened(
    addresses: SystemAddresses,
    journal: Path,
    observer: Observer,
    control: ProcessControl | None = None,
    mail: MailRoute | None = None,
    shop_url: str = "",
) -> AsyncIterator[Room]:
    """A room whose tasks run until the block ends. `journal`: the file of discarded dead letters.

    Reads RETAIN_DAYS and ANALYTICS_DATABASE_URL.
    """
    auditing = Auditing(addresses, ("--discards", str(journal)), lambda: observer.snapshot.accepted, observer.pace)
    dead_letters = DeadLetterView(addresses, journal, lambda: observer.snapshot.dead_letters, observer.pace)
    observer.on_recovery = auditing.retry
    target = Target(addresses, control, mail, lambda: observer.snapshot)
    runner, questing = Runner(target), Runner(target)
    async with (
        _following(addresses, journal.parent) as analytics,
        running(auditing.run(), "auditing"),
        running(dead_letters.run(), "dead letters"),
        running(
            prune_hourly(addresses, RetentionSettings(), journal, analytics.forget if analytics else None), "pruning"
        ),
    ):
        try:
            shop_url = shop_url or addresses.services[ORDERS.name]
            yield Room(addresses, observer, auditing, dead_letters, runner, questing, control, shop_url, analytics)
        finally:
            await questing.stop()
            await runner.stop()


@asynccontextmanager
async def _following(addresses: SystemAddresses, directory: Path) -> AsyncIterator[Analytics | None]:
    """The analytics follow the stream of events while the block runs, if events are kept."""
    if not addresses.events_kept_hours:
        yield None
        return
    store = AnalyticsStore(AnalyticsSettings().url_in(directory))
    with closing(store):
        analytics = Analytics(addresses.rabbitmq_url, store)
        async with running(analytics.run(), "analytics"):
            yield analytics

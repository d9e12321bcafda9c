"""How far orders may be pruned: not up to one that is open, has just been finished, or can still be cancelled."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from order_service.orders import CancellationRules
from order_service.pruning import store
from shared.http.prune import Horizon
from shared.ids import first_id, made_at
from shared.persistence.database import Database

ORDERS_AT_ONCE = 5000
"""They are read in a few milliseconds, during which other reads wait."""

QUIET = timedelta(days=1)
"""After its last change an order is kept for so long, however old it is: its customer may want to see the end."""

PAUSES = 2.0
"""The pause after each reading, in its own lengths: a million old orders are no reason to slow customers down."""


@dataclass(frozen=True)
class SettledOrders:
    """Once settled, an order stays so: final, with every report, for a while, and too old for a cancellation."""

    database: Database
    rules: CancellationRules

    async def horizon(self, before: datetime) -> Horizon:
        """The latest moment, up to `before`, before which every order is settled."""
        now = datetime.now(UTC)
        before = min(before, now - timedelta(seconds=self.rules.within_seconds))
        last: str | None = ""
        while last is not None:
            began = time.monotonic()
            stretch = store.Stretch(last, first_id(before), ORDERS_AT_ONCE, now - QUIET)
            last, unsettled = await self.database.read(store.look, stretch)
            if unsettled is not None:
                return Horizon(made_at(unsettled), unsettled)
            await asyncio.sleep(PAUSES * (time.monotonic() - began))
        return Horizon(before)

"""The observer on a system at rest: what nobody watches is looked at seldom, and old views are no alarm."""

from itertools import pairwise
from pathlib import Path

import pytest

from control_room.dashboard import pace as module
from control_room.dashboard.pace import Pace
from control_room.dashboard.snapshots.broker import SILENT_AFTER_SECONDS
from control_room.dashboard.snapshots.observer import watching
from control_room.operations.addresses import SystemAddresses
from tests.conftest import Broker
from tests.order_rail import launched
from tests.support import eventually

UNWATCHED_SECONDS = SILENT_AFTER_SECONDS + 1.0


async def test_a_system_that_nobody_watches_is_looked_at_seldom_and_is_not_said_to_be_silent(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNWATCHED_SECONDS", UNWATCHED_SECONDS)
    pace = Pace()
    async with launched(broker, tmp_path) as system, watching(SystemAddresses.of(system.environment), pace) as observer:
        pace.open("a page")
        await eventually(lambda: not observer.snapshot.problems, 10, "everything to be seen to run")
        pace.close("a page")
        seen = len(observer.history)
        await eventually(lambda: len(observer.history) >= seen + 2, 4 * UNWATCHED_SECONDS, "two looks that nobody sees")
        unwatched = list(observer.history)[seen:]
        assert all(later.at - earlier.at > UNWATCHED_SECONDS / 2 for earlier, later in pairwise(unwatched))
        assert observer.snapshot.problems == []
        pace.open("a page")
        await eventually(lambda: len(observer.history) >= seen + 4, UNWATCHED_SECONDS, "looks that somebody sees")

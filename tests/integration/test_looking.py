"""The observer on an idle system: it reads seldom while no page is open, and does not take old views for problems."""

from itertools import pairwise

import pytest

from control_room.dashboard import pace as module
from control_room.dashboard.snapshots.broker import SILENT_AFTER_SECONDS
from control_room.dashboard.snapshots.observer import watching
from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from tests.support import eventually

UNWATCHED_SECONDS = SILENT_AFTER_SECONDS + 1.0


async def test_while_no_page_is_open_the_system_is_read_seldom_and_not_reported_as_silent(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNWATCHED_SECONDS", UNWATCHED_SECONDS)
    async with watching(SystemAddresses.of(system.environment)) as observer:
        pace = observer.pace
        pace.open("a page")
        await eventually(lambda: not observer.snapshot.problems, 10, "a system without problems")
        pace.close("a page")
        seen = len(observer.history)
        await eventually(lambda: len(observer.history) >= seen + 2, 4 * UNWATCHED_SECONDS, "two unwatched looks")
        unwatched = list(observer.history)[seen:]
        assert all(later.at - earlier.at > UNWATCHED_SECONDS / 2 for earlier, later in pairwise(unwatched))
        assert observer.snapshot.problems == []
        pace.open("a page")
        await eventually(lambda: len(observer.history) >= seen + 4, UNWATCHED_SECONDS, "watched looks")

"""Prunes a system again and again, for as long as the control room is open."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import structlog

from control_room.operations.addresses import SystemAddresses
from control_room.operations.prune.pruning import FAILURES, Pruned, prune
from control_room.operations.prune.settings import RetentionSettings

FIRST_SECONDS, EVERY_SECONDS = 300.0, 3600.0

logger = structlog.get_logger(__name__)


async def prune_hourly(
    system: SystemAddresses,
    settings: RetentionSettings,
    discards: Path,
    on_pruned: Callable[[datetime], Awaitable[None]] | None = None,
) -> None:
    """Prune, and wait for an hour, until cancelled. What fails is logged, and done an hour later.

    `on_pruned` is called with the moment up to which the system is pruned, by this or by `order-rail prune`.
    """
    await asyncio.sleep(FIRST_SECONDS)  # a system that has just been started has other things to do
    while True:
        try:
            pruned = await prune(system, settings.retain_days, discards)
            _report(pruned)
            if on_pruned is not None:
                await on_pruned(pruned.before)
        except FAILURES as error:
            logger.warning("prune.failed", error=str(error))
        except Exception:
            logger.exception("prune.failed")
        await asyncio.sleep(EVERY_SECONDS)


def _report(pruned: Pruned) -> None:
    if pruned.held_by:
        logger.warning("prune.held_back", before=pruned.before.isoformat(), reason=pruned.held_by)
    if any(pruned.deleted.values()):
        logger.info("prune.deleted", before=pruned.before.isoformat(), **pruned.deleted)

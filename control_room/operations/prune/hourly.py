"""Prunes a system again and again, for as long as the control room is open."""

import asyncio
from pathlib import Path

import structlog

from control_room.operations.addresses import SystemAddresses
from control_room.operations.prune.pruning import FAILURES, Pruned, prune
from control_room.operations.prune.settings import RetentionSettings

FIRST_SECONDS, EVERY_SECONDS = 300.0, 3600.0

logger = structlog.get_logger(__name__)


async def prune_hourly(system: SystemAddresses, settings: RetentionSettings, discards: Path) -> None:
    """Prune, and wait for an hour, until cancelled. What fails is logged, and done an hour later."""
    await asyncio.sleep(FIRST_SECONDS)  # a system that has just been started has other things to do
    while True:
        try:
            _report(await prune(system, settings.retain_days, discards))
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

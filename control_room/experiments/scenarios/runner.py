"""Plays one scenario, or follows one quest, at a time, for all viewers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx
import structlog

from control_room.dashboard.process_control import ControlFailed
from control_room.experiments.client import connected
from control_room.experiments.load import AnswerLost
from control_room.experiments.scenarios.scenario import Outcome, Playing, Target
from control_room.experiments.traffic import Unexpected
from control_room.operations.addresses import NotRunning, SystemAddresses
from control_room.operations.audit import AuditImpossible
from shared.management import ManagementError
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.publisher import PublishError

FAILURES = (
    Unexpected, NotRunning, ControlFailed, AuditImpossible, AnswerLost, ManagementError, BrokerUnavailable,
    PublishError, httpx.HTTPError, OSError,
)  # fmt: skip

logger = structlog.get_logger(__name__)


class Playable(Protocol):
    """A scenario or a quest. `play` raises Unexpected, or what its calls raise."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def limit_seconds(self) -> float: ...
    @property
    def play(self) -> Callable[[Playing], Awaitable[Outcome]]: ...


@dataclass
class Run:
    """What is being played, or was. `outcome` is None until it is over; `now` says how far it is."""

    played: Playable
    started_at: float
    now: str = "begins"
    outcome: Outcome | None = None
    took_seconds: float = 0.0


class Runner:
    """`runs` holds the latest run of each by name; `current` the one that is being played."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.runs: dict[str, Run] = {}
        self.current: Run | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, played: Playable, chosen: Mapping[str, int]) -> None:
        """Begin to play it; nothing happens while another is being played."""
        if self.current is None:
            self.current = self.runs[played.name] = Run(played, time.monotonic())
            self._task = asyncio.create_task(self._play(self.current, chosen), name=played.name)

    async def stop(self) -> None:
        """Cancel what is being played; it puts everything right first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _play(self, run: Run, chosen: Mapping[str, int]) -> None:
        try:
            run.outcome = await self._outcome(run, chosen)
        except asyncio.CancelledError:
            run.outcome = Outcome("that it is played to its end", "it was stopped", held=False)
            raise
        except Exception as error:  # a bug: viewers see it, and the others can still be played
            logger.exception("scenario.failed", played=run.played.name)
            run.outcome = _failed(f"it failed with a {type(error).__name__}: see the log of the control room")
        finally:
            run.took_seconds = time.monotonic() - run.started_at
            self.current = None

    async def _outcome(self, run: Run, chosen: Mapping[str, int]) -> Outcome:
        def say(what: str) -> None:
            run.now = what

        try:
            async with asyncio.timeout(run.played.limit_seconds), connected(self.target.addresses) as client:
                return await run.played.play(Playing(self.target, client, chosen, say))
        except TimeoutError:
            return _failed(f"after {run.played.limit_seconds:.0f} s it was still here: {run.now}")
        except FAILURES as error:
            return _failed(why(error, self.target.addresses))


def why(error: Exception, addresses: SystemAddresses) -> str:
    """One of FAILURES in words, without what libraries and the operating system say of a connection."""
    match error:
        case httpx.RequestError():
            url, services = str(error.request.url), addresses.services
            missing = next((name for name, address in services.items() if url.startswith(address)), "a service")
        case OSError():
            missing = "a service"
        case _:
            return str(error) or type(error).__name__
    return f"{missing} does not answer: try again once everything runs"


def _failed(seen: str) -> Outcome:
    return Outcome("that it can be played to its end", seen, held=False)

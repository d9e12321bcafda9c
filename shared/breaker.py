"""A circuit breaker that pauses: while another system is down, work for it waits and spends no attempts.

It stands around the calls of one outside system and counts the failures of that system in a row. After a few it opens:
a call raises `NotReady` at once, so that its delivery is held (`messaging/hold.py`) and all others stay in the queue.
After a pause, which grows with each failure, one call goes through as a probe; an answer to it closes the breaker.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from shared.messaging.retry import AccessDenied, NotReady, OutcomeUnknown, TransientError, Unavailable
from shared.observability import metrics
from shared.persistence.failures import DatabaseUnavailable

FAILURES = 3
"""In a row, until it opens. One message makes at most two: its handler is called twice within an attempt."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 5.0
"""Before a probe. Each failed probe doubles the pause."""

MAX_DENIED_PAUSE_SECONDS = 60.0
"""The same while the outside system refuses this service: some lock out clients that go on with a wrong password."""

MAX_ASKED_SECONDS = 60.0
"""The longest pause that the outside system itself may ask for."""

Result = TypeVar("Result")

logger = structlog.get_logger(__name__)


@dataclass
class _Outage:
    """As the last failure left it. `probe_at` is on the breaker's clock."""

    reason: str
    is_denial: bool
    since: datetime
    pause_seconds: float
    probe_at: float
    is_probing: bool = False


class Breaker:
    """Around the calls of one outside system; `name` is the system's, for people."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._failures = 0
        self._outage: _Outage | None = None
        self._gauge = metrics.degraded.labels(name)

    def degraded(self) -> str | None:
        """Since when and why work waits, where that ends by itself; or None."""
        return self._sentence(is_denial=False)

    def problem(self) -> str | None:
        """The same where a person must act, since the system refuses this service; or None."""
        return self._sentence(is_denial=True)

    def _sentence(self, *, is_denial: bool) -> str | None:
        outage = self._outage
        if outage is None or outage.is_denial is not is_denial:
            return None
        return f"{self._name}, since {outage.since:%Y-%m-%dT%H:%M:%SZ}: {outage.reason}"

    async def call(self, function: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
        """Call `function`. Raises what it raises, and `NotReady` while the breaker is open.

        `Unavailable` is raised as `NotReady` if the breaker is open now: the message is not to blame. `OutcomeUnknown`
        counts as well, and is raised as it is, since a repetition may do harm. Other errors are answers.
        """
        outage = self._admitted()
        try:
            result = await function(*arguments)
        except DatabaseUnavailable:  # this service's own: it says nothing about the outside system
            raise
        except (NotReady, OutcomeUnknown, Unavailable) as error:
            self._fail(outage, error)
            if isinstance(error, Unavailable) and self._outage is not None:
                raise NotReady(str(error)) from error
            raise
        except Exception:
            self._succeed(outage)
            raise
        else:
            self._succeed(outage)
            return result
        finally:  # also if the probe is cancelled: another call takes its place
            if outage is not None:
                outage.is_probing = False

    def _admitted(self) -> _Outage | None:
        """The outage that this call probes, None while the breaker is closed. Raises `NotReady`."""
        outage = self._outage
        if outage is not None:
            if outage.is_probing or self._clock() < outage.probe_at:
                raise NotReady(f"{self._name}: {outage.reason}")
            outage.is_probing = True
        return outage

    def _fail(self, probed: _Outage | None, error: Exception) -> None:
        self._failures += 1
        outage = self._outage
        if outage is None:
            if self._failures >= FAILURES or isinstance(error, AccessDenied):
                self._pause(error, datetime.now(UTC), FIRST_PAUSE_SECONDS)
        elif probed is outage:  # not a call that began before the outage
            longest = MAX_DENIED_PAUSE_SECONDS if isinstance(error, AccessDenied) else MAX_PAUSE_SECONDS
            self._pause(error, outage.since, min(2 * outage.pause_seconds, longest))

    def _pause(self, error: Exception, since: datetime, seconds: float) -> None:
        before, is_denial = self._outage, isinstance(error, AccessDenied)
        asked = error.retry_after_seconds if isinstance(error, TransientError) else 0.0
        seconds = max(seconds, min(asked, MAX_ASKED_SECONDS))
        self._outage = _Outage(str(error), is_denial, since, seconds, self._clock() + seconds)
        self._gauge.set(1)
        if before is None or before.is_denial is not is_denial:
            log = logger.error if is_denial else logger.warning
            log("breaker.opened", system=self._name, reason=str(error))

    def _succeed(self, probed: _Outage | None) -> None:
        outage = self._outage
        if outage is None:
            self._failures = 0
        elif probed is outage:  # not a call that began before the outage
            self._failures, self._outage = 0, None
            self._gauge.set(0)
            logger.info("breaker.closed", system=self._name, since=outage.since.isoformat())

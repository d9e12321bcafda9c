"""What a fault is, and one injection of it with the evidence that it really happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from control_room.experiments.chaos.system import RunningSystem, awaited


@dataclass
class Injection:
    """One fault on one target, as planned and as it went; `at_seconds` counts from the start of the load.

    `back_seconds`: from its end until every service was ready and a new order was confirmed. `backlog_seconds`: from
    its end until every order that was open then was closed. None if not seen. `problem`: why it does not count.
    """

    fault: str
    target: str
    at_seconds: float
    seconds: float = 0.0
    state: str = "planned"
    evidence: list[str] = field(default_factory=list)
    problem: str = ""
    lasted_seconds: float | None = None
    back_seconds: float | None = None
    backlog_seconds: float | None = None
    began_at: float | None = None
    """On the clock of `time.monotonic`."""
    over: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set once the fault is no longer there: from here on the system should recover."""

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.fault} on {self.target}{lasting}"

    @contextmanager
    def active(self) -> Iterator[None]:
        """The fault is there while the block runs. If entered again, the first beginning and the first end count."""
        if self.began_at is None:
            self.began_at = time.monotonic()
        try:
            yield
        finally:
            if self.lasted_seconds is None:
                self.lasted_seconds = time.monotonic() - self.began_at
                self.over.set()

    @asynccontextmanager
    async def applied(self, begin: Callable[[], Any], end: Callable[[], Any]) -> AsyncIterator[None]:
        """As `active`, between calls of `begin` and `end`, which may be coroutine functions."""
        with self.active():
            try:
                await awaited(begin())
                yield
            finally:
                await awaited(end())

    def saw(self, sentence: str) -> None:
        """Add evidence."""
        self.evidence.append(sentence)

    @property
    def proof(self) -> str:
        """The evidence, and why it does not suffice if it doesn't."""
        return "; ".join([*self.evidence, *([f"NO EVIDENCE: {self.problem}"] if self.problem else [])])

    def as_json(self) -> dict[str, Any]:
        """What the report says of it."""
        names = "fault target at_seconds lasted_seconds evidence back_seconds backlog_seconds problem"
        return {name: getattr(self, name) for name in names.split()}


S = TypeVar("S", bound=RunningSystem)
S_contra = TypeVar("S_contra", bound=RunningSystem, contravariant=True)
"""The kind of system that a fault can be injected into."""

Inject = Callable[[S, Injection], Awaitable[None]]
"""Makes a fault happen within `injection.active()`, and leaves evidence. Raises NoEvidence."""


@dataclass(frozen=True)
class Fault(Generic[S_contra]):
    """A kind of fault. `lasts_seconds`: from and to; `allowance_seconds`: for evidence and recovery before the next.

    `missing` says what this machine lacks for it, nothing if it can be injected here. `nodes`: as many as RabbitMQ must
    have at least.
    """

    name: str
    targets: tuple[str, ...]
    lasts_seconds: tuple[float, float]
    allowance_seconds: float
    inject: Inject[S_contra]
    missing: Callable[[], str] = lambda: ""
    nodes: int = 1

    @property
    def meaning(self) -> str:
        """What it does, in a sentence."""
        return (self.inject.__doc__ or "").partition("\n")[0].removesuffix(".")


def fault(
    name: str,
    targets: tuple[str, ...],
    *,
    lasts_seconds: tuple[float, float] = (0.0, 0.0),
    allowance_seconds: float,
    missing: Callable[[], str] = lambda: "",
    nodes: int = 1,
) -> Callable[[Inject[S]], Fault[S]]:
    """Declare a function as a fault; the first line of its docstring is shown by `--list-faults`."""
    return lambda inject: Fault(name, targets, lasts_seconds, allowance_seconds, inject, missing, nodes)

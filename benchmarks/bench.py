"""What every measurement gets: the stage, the contenders, how much of everything, and where the values go."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import ORDER_RAIL, Contender
from benchmarks.databases import SQLITE
from benchmarks.results import Quantity, Results
from benchmarks.stage import Scene, Stage


@dataclass(frozen=True)
class Scale:
    """How much of everything. The defaults are those of the published numbers."""

    quiet_seconds: float = 20.0
    """How long to wait before each run for others to leave the machine alone."""
    connections: int = 64
    warm_up_seconds: float = 2.0
    accept_seconds: float = 8.0
    at_work_seconds: float = 12.0
    backlog: int = 20_000
    peer_backlog: int = 4_000
    """Theirs is smaller, as they need several times as long for each order: else all of it would take hours."""
    rates: tuple[int, ...] = (50, 200)
    latency_seconds: float = 15.0
    history: int = 1_000_000
    backlogs: tuple[int, ...] = (1_000, 200_000)
    paid_by_a_replica: int = 2_000
    prune_rate: int = 300
    prune_windows: int = 12
    prune_window_seconds: float = 15.0
    idle_seconds: float = 3.0
    audited: int = 1_000_000
    replayed: int = 100_000
    late_orders: int = 20_000
    late_rate: float = 100.0
    late_seconds: float = 5.0


QUICK = Scale(
    quiet_seconds=0.0,
    connections=16,
    warm_up_seconds=0.3,
    accept_seconds=1.0,
    at_work_seconds=1.0,
    backlog=200,
    peer_backlog=100,
    rates=(20,),
    latency_seconds=2.0,
    history=2_000,
    backlogs=(100, 500),
    paid_by_a_replica=50,
    prune_rate=20,
    prune_windows=1,
    prune_window_seconds=1.0,
    idle_seconds=0.5,
    audited=2_000,
    replayed=500,
    late_orders=200,
    late_rate=20.0,
    late_seconds=0.5,
)
"""Enough to see that everything works; its numbers mean nothing."""


@dataclass
class Bench:
    """`say` prints what is done now, a sentence. `database` is the one that the contenders use."""

    stage: Stage
    peers: Sequence[Contender]
    scale: Scale
    results: Results
    directory: Path
    say: Callable[[str], None]
    database: str = SQLITE

    def scene(self, contender: Contender, files: Path | None = None) -> AbstractAsyncContextManager[Scene]:
        """As `Stage.scene`."""
        return self.stage.scene(contender, self.database, self.scale.quiet_seconds, files)

    def add(self, measurement: str, contender: str, name: str, unit: str, value: float) -> None:
        """As `Results.add`."""
        self.results.add(Quantity(measurement, contender, name, unit, self.database), value)

    def in_turn(self, round_number: int, *others: Contender) -> list[Contender]:
        """Order Rail, its peers and the others; each round begins with another one."""
        everyone = [ORDER_RAIL, *self.peers, *others]
        first = round_number % len(everyone)
        return everyone[first:] + everyone[:first]

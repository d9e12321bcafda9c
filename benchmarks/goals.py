"""What Order Rail is to reach beside the others, and by how much it does or doesn't."""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import (
    accept,
    at_work,
    drain,
    footprint,
    growth,
    latency,
    pass_through,
    prune,
    replay,
    scaling,
    watching,
)
from benchmarks.contenders import BEFORE, ORDER_RAIL, PEERS
from benchmarks.databases import BOTH, POSTGRESQL, SQLITE
from benchmarks.results import Results

OURS = ORDER_RAIL.name
PEER_NAMES = {peer.name for peer in PEERS}
SAME_WORK = {peer.name for peer in PEERS if peer.relay}

CORES_SPENT_PERCENT = 95
"""From here on another replica takes its processor time from the others."""

ON_BOTH = f"--database {BOTH}"

Value = Callable[[Results], float | None]


@dataclass(frozen=True)
class Goal:
    """`value` is None where what it needs was not measured. `measurement`: one, or several separated by commas."""

    title: str
    measurement: str
    value: Value
    at_least: float | None = None
    at_most: float | None = None
    options: str = ""

    def is_met_by(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    @property
    def bound(self) -> str:
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    @property
    def command(self) -> str:
        """What measures what it needs."""
        return f"python -m benchmarks --only {self.measurement} {self.options}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was measured."""

    goal: str
    bound: str
    value: float
    is_met: bool
    command: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verdicts(results: Results) -> list[Verdict]:
    """Every goal whose values are there."""
    values = [(goal, goal.value(results)) for goal in GOALS]
    return [
        Verdict(goal.title, goal.bound, value, goal.is_met_by(value), goal.command)
        for goal, value in values
        if value is not None
    ]


def _beside_best_peer(
    measurement: str, name: str = "rate", database: str = SQLITE, peers: Collection[str] = PEER_NAMES
) -> Value:
    def value(results: Results) -> float | None:
        rates = results.medians(measurement, name, database)
        return _ratio(rates.get(OURS), max((rate for peer, rate in rates.items() if peer in peers), default=None))

    return value


def _beside(other: str, measurement: str, name: str, others_measurement: str = "") -> Value:
    """Order Rail's value beside that of another contender."""

    def value(results: Results) -> float | None:
        theirs = results.median(others_measurement or measurement, other, name)
        return _ratio(results.median(measurement, OURS, name), theirs)

    return value


def _on_postgresql(measurement: str) -> Value:
    """The rate on PostgreSQL beside the rate on SQLite."""

    def value(results: Results) -> float | None:
        on_server, in_file = (results.median(measurement, OURS, "rate", each) for each in (POSTGRESQL, SQLITE))
        return _ratio(on_server, in_file)

    return value


def _grown(what: str) -> Value:
    """The rate with the past beside the rate without."""

    def value(results: Results) -> float | None:
        medians = [rate for name, rate in _ours(results, growth.NAME).items() if name.startswith(f"{what}, ")]
        return _ratio(medians[1], medians[0]) if len(medians) > 1 else None

    return value


def _memory_grown(results: Results) -> float | None:
    """Of the service that grew most from the small to the large backlog."""
    ours = {name: value for name, value in _ours(results, growth.NAME).items() if name.startswith("memory of ")}
    services = list(dict.fromkeys(name.partition(",")[0] for name in ours))
    grown = []
    for service in services:
        small, *_, large = [value for name, value in ours.items() if name.startswith(service)]
        grown.append(large / small)
    return max(grown, default=None)


def _watched(results: Results) -> float | None:
    watched, alone = (results.median(watching.NAME, OURS, f"accept, {when}") for when in ("watched", "not watched"))
    return _ratio(watched, alone)


def _pruned(results: Results) -> float | None:
    values = [results.median(prune.NAME, OURS, f"accept, p99, {when}") for when in (prune.MEANWHILE, prune.WITHOUT)]
    return _ratio(*values)


def _scaled(results: Results) -> float | None:
    """A replica's share of the rate beside the rate of one alone, with the most replicas that left processors idle."""
    rates = [
        rate / replicas
        for replicas in scaling.REPLICAS
        if (rate := results.median(scaling.NAME, OURS, scaling.quantity(replicas), POSTGRESQL))
        and (results.median(scaling.NAME, OURS, scaling.busy(replicas), POSTGRESQL) or 0) < CORES_SPENT_PERCENT
    ]
    return _ratio(rates[-1], rates[0]) if len(rates) > 1 else None


def _kept(what: str) -> Value:
    """With the stream beside without."""

    def value(results: Results) -> float | None:
        kept, without = (results.median(replay.NAME, OURS, f"{what}, {when}") for when in (replay.KEPT, replay.WITHOUT))
        return _ratio(kept, without)

    return value


def _longest_gap(results: Results) -> float | None:
    return results.median(watching.NAME, OURS, "longest time between two updates")


def _memory_with_streams(results: Results) -> float | None:
    medians = _ours(results, watching.NAME)
    first, later = (medians.get(f"memory with {watching.STREAMS} streams, {when}") for when in ("first", "later"))
    return _ratio(later, first)


def _largest(suffix: str) -> Value:
    def value(results: Results) -> float | None:
        return max(
            (value for name, value in _ours(results, footprint.NAME).items() if name.endswith(suffix)), default=None
        )

    return value


def _ours(results: Results, measurement: str) -> dict[str, float]:
    names = [quantity.name for quantity in results.of(measurement) if quantity.contender == OURS]
    return {name: value for name in names if (value := results.median(measurement, OURS, name)) is not None}


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


GOALS = (
    Goal("drain, beside the best peer", drain.NAME, _beside_best_peer(drain.NAME), at_least=3.5),
    Goal(
        "drain, beside the best peer that does the same work",
        drain.NAME,
        _beside_best_peer(drain.NAME, peers=SAME_WORK),
        at_least=5,
    ),
    Goal(
        "drain, beside what pika alone passes through",
        f"{drain.NAME},{pass_through.NAME}",
        _beside("pika", drain.NAME, "rate", pass_through.NAME),
        at_least=0.7,
    ),
    Goal(
        "processor time of a drained order, beside the version before (`git worktree add .run/before a62db12`)",
        drain.NAME,
        _beside(BEFORE, drain.NAME, "processor time"),
        at_most=0.8,
        options="--before .run/before",
    ),
    Goal("accept, beside the best peer", accept.NAME, _beside_best_peer(accept.NAME), at_least=3),
    Goal(
        "accept until the last order is in RabbitMQ, beside the best peer",
        accept.NAME,
        _beside_best_peer(accept.NAME, "rate to RabbitMQ"),
        at_least=3,
    ),
    Goal(
        "accept, beside Starlette that only validates",
        accept.NAME,
        _beside("starlette_validates", accept.NAME, "rate"),
        at_least=0.55,
    ),
    *(
        Goal(
            f"{measurement} on PostgreSQL, beside the best peer",
            measurement,
            _beside_best_peer(measurement, database=POSTGRESQL),
            at_least=3,
            options=f"--database {POSTGRESQL}",
        )
        for measurement in (accept.NAME, drain.NAME)
    ),
    Goal(
        "accept with all services at work on PostgreSQL, beside SQLite",
        at_work.NAME,
        _on_postgresql(at_work.NAME),
        at_least=0.7,
        options=ON_BOTH,
    ),
    Goal("drain on PostgreSQL, beside SQLite", drain.NAME, _on_postgresql(drain.NAME), at_least=0.6, options=ON_BOTH),
    *(
        Goal(
            f"latency, {percentile} at {rate} orders/s, beside FastStream",
            latency.NAME,
            _beside("faststream", latency.NAME, f"{percentile} at {rate}/s"),
            at_most=1,
        )
        for percentile in ("p50", "p99")
        for rate in (50, 200)
    ),
    Goal("accept with a full database, beside an empty one", growth.NAME, _grown("accept"), at_least=0.9),
    Goal("drain with a full database, beside an empty one", growth.NAME, _grown("drain"), at_least=0.9),
    Goal("memory with a large backlog, beside a small one", growth.NAME, _memory_grown, at_most=1.2),
    Goal("p99 of accept while a million old orders are pruned, beside without", prune.NAME, _pruned, at_most=1.2),
    Goal(
        f"payments of a replica beside others, beside one alone, until cores are {CORES_SPENT_PERCENT} % busy",
        scaling.NAME,
        _scaled,
        at_least=0.85,
        options=f"--database {POSTGRESQL}",
    ),
    Goal("accept while the control room is watched, beside without", watching.NAME, _watched, at_least=0.9),
    Goal("the longest time between two updates of the control room (s)", watching.NAME, _longest_gap, at_most=2),
    Goal("memory with 50 streams of an order, later beside first", watching.NAME, _memory_with_streams, at_most=1.1),
    Goal("accept while every event is kept in a stream, beside without", replay.NAME, _kept("accept"), at_least=0.95),
    Goal("drain while every event is kept in a stream, beside without", replay.NAME, _kept("drain"), at_least=0.95),
    Goal("the largest service, idle (MiB)", footprint.NAME, _largest(": idle"), at_most=100),
    Goal("the slowest service to be ready (s)", footprint.NAME, _largest(": to ready"), at_most=2),
)

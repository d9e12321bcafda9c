"""What Order Rail is to reach beside the others, and by how much it does or doesn't."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import accept, drain, footprint, growth, latency, watching
from benchmarks.contenders import CEILINGS, ORDER_RAIL, PEERS
from benchmarks.results import Results

OURS = ORDER_RAIL.name
PEER_NAMES = {peer.name for peer in PEERS}


@dataclass(frozen=True)
class Goal:
    """`value` is None where what it needs was not measured."""

    title: str
    measurement: str
    value: Callable[[Results], float | None]
    at_least: float | None = None
    at_most: float | None = None

    def is_met_by(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    @property
    def bound(self) -> str:
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"


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
        Verdict(goal.title, goal.bound, value, goal.is_met_by(value), f"python -m benchmarks --only {goal.measurement}")
        for goal, value in values
        if value is not None
    ]


def _beside_best_peer(measurement: str, name: str = "rate") -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        rates = results.medians(measurement, name)
        peers = [rate for contender, rate in rates.items() if contender in PEER_NAMES]
        return rates[OURS] / max(peers) if peers and OURS in rates else None

    return value


def _beside_ceiling(results: Results) -> float | None:
    return _ratio(results.median(accept.NAME, OURS, "rate"), results.median(accept.NAME, CEILINGS[0].name, "rate"))


def _latency_beside_faststream(results: Results) -> float | None:
    name = "p50 at 50/s"
    return _ratio(results.median(latency.NAME, OURS, name), results.median(latency.NAME, "faststream", name))


def _grown(what: str) -> Callable[[Results], float | None]:
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


def _longest_gap(results: Results) -> float | None:
    return results.median(watching.NAME, OURS, "longest time between two updates")


def _memory_with_streams(results: Results) -> float | None:
    medians = _ours(results, watching.NAME)
    first, later = (medians.get(f"memory with {watching.STREAMS} streams, {when}") for when in ("first", "later"))
    return _ratio(later, first)


def _largest(suffix: str) -> Callable[[Results], float | None]:
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
    Goal("orders accepted, beside the best peer", accept.NAME, _beside_best_peer(accept.NAME), at_least=3),
    Goal(
        "orders accepted until the last is in RabbitMQ, beside the best peer",
        accept.NAME,
        _beside_best_peer(accept.NAME, "rate to RabbitMQ"),
        at_least=3,
    ),
    Goal("orders accepted, beside FastAPI that only validates", accept.NAME, _beside_ceiling, at_least=0.6),
    Goal("orders drained, beside the best peer", drain.NAME, _beside_best_peer(drain.NAME), at_least=4),
    Goal("median latency at 50 orders/s, beside FastStream", latency.NAME, _latency_beside_faststream, at_most=1),
    Goal("orders accepted with a full database, beside an empty one", growth.NAME, _grown("accept"), at_least=0.9),
    Goal("orders drained with a full database, beside an empty one", growth.NAME, _grown("drain"), at_least=0.9),
    Goal("memory with a large backlog, beside a small one", growth.NAME, _memory_grown, at_most=1.2),
    Goal("orders accepted while the control room is watched, beside without", watching.NAME, _watched, at_least=0.9),
    Goal("the longest time between two updates of the control room (s)", watching.NAME, _longest_gap, at_most=2),
    Goal("memory with 50 streams of an order, later beside first", watching.NAME, _memory_with_streams, at_most=1.1),
    Goal("the largest service, idle (MiB)", footprint.NAME, _largest(": idle"), at_most=100),
    Goal("the slowest service to be ready (s)", footprint.NAME, _largest(": to ready"), at_most=2),
)

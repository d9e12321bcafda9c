"""One service, read over HTTP: whether each replica is ready, and what all of them have counted together."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.samples import Sample

from control_room.dashboard.pace import UNWATCHED_SECONDS
from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import NOT_RUNNING, SILENT, ServiceView
from control_room.operations.replicas import Total, parsed, replicas
from shared.contract import stages

TIMEOUT_SECONDS = 3.0
"""Long, since a busy service answers late and is not to be reported as silent."""
RATE_SECONDS = 3.0
STALE_SECONDS = UNWATCHED_SECONDS + 2 * TIMEOUT_SECONDS
OUTBOX, PAUSED, SLOWED = "order_rail_outbox_pending", "order_rail_paused", "order_rail_slowed_seconds"
SETTLED = "order_rail_deliveries_settled_total"
DUPLICATES = "order_rail_duplicate_deliveries_total"
COUNTED = frozenset((SETTLED, DUPLICATES, *(stage.counter for _, stage in stages() if stage.counter)))

Counter = tuple[str, str, str]
"""Metric, queue, outcome; the last two are empty where the metric has no such label."""


@dataclass(frozen=True)
class Answer:
    """Of one replica. `page`: what it counts; None if it does not answer."""

    page: list[Sample] | None = None
    problems: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


class Meter:
    """The rates of counters over the last seconds."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, Mapping[Counter, float]]] = deque()

    def read(self, values: Mapping[Counter, float], now: float) -> None:
        """Add a reading of all counters."""
        self._readings.append((now, values))
        while len(self._readings) > 2 and self._readings[1][0] < now - RATE_SECONDS:
            self._readings.popleft()

    def per_second(self, now: float, *counters: Counter) -> float:
        """The sum of these counters' rates. 0 without two readings, or if the last one is stale."""
        if len(self._readings) < 2 or self._readings[-1][0] < now - STALE_SECONDS:
            return 0.0
        (first_at, first), (last_at, last) = self._readings[0], self._readings[-1]
        return max(0.0, sum(last[each] - first[each] for each in counters if each in first) / (last_at - first_at))


class WatchedService:
    """Keeps `view`, the latest state of one service, and the rates of its counters."""

    def __init__(self, name: str, url: str, http: httpx.AsyncClient) -> None:
        self.view = ServiceView(name)
        self._name, self._url, self._http = name, url, http
        self._totals: dict[tuple[str, Counter], Total] = defaultdict(Total)
        self._meter = Meter()
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Read every replica once; what goes wrong is in the view."""
        async with self._lock:  # counters that are read out of turn would seem to start again
            try:
                urls = await replicas(self._url)
            except OSError:
                urls = []
            found = await asyncio.gather(*(self._look_at(url) for url in urls))
            pages = {url: answer.page for url, answer in zip(urls, found, strict=True) if answer.page is not None}
            self._count(pages)
            self.view = self._view(list(pages.values()), found or [Answer(problems=(NOT_RUNNING,))])

    def _view(self, pages: Sequence[Sequence[Sample]], answers: Sequence[Answer]) -> ServiceView:
        def highest(metric: str) -> float:
            return max((sample.value for page in pages for sample in page if sample.name == metric), default=0)

        problems = tuple(dict.fromkeys(problem for answer in answers for problem in answer.problems))
        degraded = tuple(dict.fromkeys(each for answer in answers for each in answer.degraded))
        slow_or_not = ProcessState.SLOW if highest(SLOWED) else ProcessState.RUNNING
        process = ProcessState.PAUSED if highest(PAUSED) else slow_or_not
        has_returned = NOT_RUNNING in self.view.problems and NOT_RUNNING not in problems
        restarted_at = time.time() if has_returned else self.view.restarted_at
        return ServiceView(self._name, len(pages), problems, int(highest(OUTBOX)), process, degraded, restarted_at)

    def per_second(self, *counters: Counter) -> float:
        """The sum of the rates of these counters, over all replicas."""
        return self._meter.per_second(time.monotonic(), *counters)

    async def _look_at(self, url: str) -> Answer:
        try:
            ready, page = await asyncio.gather(
                *(self._http.get(f"{url}/{call}", timeout=TIMEOUT_SECONDS) for call in ("readyz", "metrics"))
            )
            health = ready.json()
            problems = () if ready.is_success else tuple(health["problems"])
            return Answer(parsed(page.raise_for_status().text), problems, tuple(health.get("degraded", ())))
        except httpx.TimeoutException:
            return Answer(problems=(SILENT,))
        except (httpx.HTTPError, ValueError, KeyError):
            return Answer(problems=(NOT_RUNNING,))

    def _count(self, pages: Mapping[str, Iterable[Sample]]) -> None:
        """Read the counters. A replica that is gone keeps its total, so that the sum does not fall."""
        for url, page in pages.items():
            for sample in page:
                if sample.name in COUNTED:
                    self._totals[url, _counter(sample)].see(sample.value)
        sums: dict[Counter, float] = defaultdict(float)
        for (_, counter), total in self._totals.items():
            sums[counter] += total.total
        self._meter.read(sums, time.monotonic())


def _counter(sample: Sample) -> Counter:
    return sample.name, sample.labels.get("queue", ""), sample.labels.get("outcome", "")

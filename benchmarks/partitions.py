"""Events of 20 keys whose handler takes 5 ms: what keeps each key in sequence, and how many events a second.

    python -m benchmarks.partitions

The first is what people do without partitions: one queue with a single active consumer, which takes one event at a
time. A RabbitMQ node of its own; the processes are those of the scenario. Not part of `make bench`.
"""

import asyncio
import tempfile
from pathlib import Path
from statistics import median

from control_room.experiments.sequence import KEYS, out_of_sequence, rate, trial
from control_room.launcher.broker import PrivateBroker
from control_room.text import markdown_table
from shared.settings import BrokerSettings

WORK_SECONDS, AT_ONCE, ROUNDS = 0.005, 100, 3
CASES = (
    ("one queue, one event after the other", 1, 1, 1, 1_000),
    ("one partition", 1, AT_ONCE, 1, 10_000),
    ("four partitions", 4, AT_ONCE, 1, 10_000),
    ("four partitions, two of them in a second process", 4, AT_ONCE, 2, 10_000),
)
"""A name, partitions, deliveries at once, processes, events."""


async def measure(settings: BrokerSettings, partitions: int, concurrency: int, processes: int, events: int) -> float:
    """Events handled a second, of a backlog."""
    async with trial(settings, partitions) as case:
        await case.publish(events // KEYS)
        shares = [case.queues[process::processes] for process in range(processes)]
        await asyncio.gather(*(case.start_consumer(WORK_SECONDS, concurrency, share) for share in shares))
        await case.until_handled(events)
        handled = case.handled()
        if broken := out_of_sequence(case.published, handled):
            raise SystemExit(f"out of sequence: {', '.join(broken)}")
        return rate(handled)


async def main() -> None:
    """Print the rates, and how many times that of the first each is."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with PrivateBroker(Path(directory)) as node:
            settings = BrokerSettings(rabbitmq_url=node.amqp_url(), rabbitmq_management_url=node.management_url)
            for _ in range(ROUNDS):
                for name, *case in CASES:
                    found.setdefault(name, []).append(await measure(settings, *case))
    rates = {name: median(values) for name, values in found.items()}
    first = next(iter(rates.values()))
    rows = [(name, f"{value:,.0f}", f"{value / first:.1f}") for name, value in rates.items()]
    print("\n".join(markdown_table(("", "events/s", "times the first"), rows)))


if __name__ == "__main__":
    asyncio.run(main())

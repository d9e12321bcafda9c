"""Accept and drain of this version beside another one, in short turns, so that a change of the machine changes both.

    python -m benchmarks.versions DIRECTORY

DIRECTORY is a checkout of the other version. In each turn orders are placed as fast as they are taken while the workers
are frozen (accept), then the workers go on until all are confirmed (drain); meanwhile the other version is frozen as a
whole. The same two measurements stand in `python -m benchmarks --before`, one version after the other for longer.
"""

import asyncio
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import typer

from benchmarks.bench import Scale
from benchmarks.contenders import BEFORE, ORDER_RAIL, Program, Query, order_rail_before
from benchmarks.databases import SQLITE
from benchmarks.drain import drain
from benchmarks.load.run import place_many
from benchmarks.progress import last_order_id, rows_of
from benchmarks.stage import Scene, Stage, set_up
from control_room.text import markdown_table

ALL = ORDER_RAIL.programs
QUANTITIES = ("accept, orders/s", "drain, orders/s", "processor time of services and broker, ms/order")
UNPUBLISHED = Query("order_service", "SELECT count(*) FROM outbox")
POLL_SECONDS = 0.05


def main(
    other: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A checkout of the other version.")],
    turns: Annotated[int, typer.Option(min=2, help="How often each of the two is measured.")] = 16,
    orders: Annotated[int, typer.Option(min=1, help="How many are placed in each turn.")] = 6_000,
) -> None:
    """Print rates and processor time of both versions, and their ratio in each pair of turns."""
    asyncio.run(_measure(other.absolute(), turns, orders))


async def _measure(other: Path, turns: int, orders: int) -> None:
    found: dict[str, list[tuple[float, ...]]] = {}
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage = await stack.enter_async_context(set_up(directory))
        scenes = []
        for contender in (ORDER_RAIL, order_rail_before(other)):
            scene = await stack.enter_async_context(stage.scene(contender, SQLITE, quiet_seconds=0))
            await scene.start(ALL)
            stack.callback(_signal, scene, ALL, signal.SIGCONT)  # a frozen process does not end
            _signal(scene, ALL, signal.SIGSTOP)
            scenes.append(scene)
        for turn in range(turns + 1):  # the first one warms up
            for scene in scenes[:: 1 if turn % 2 else -1]:
                rates = await _turn(stage, scene, orders)
                if turn:
                    found.setdefault(scene.contender.name, []).append(rates)
    for place, name in enumerate(QUANTITIES):
        _show(name, *([rates[place] for rates in found[version]] for version in (ORDER_RAIL.name, BEFORE)))


async def _turn(stage: Stage, scene: Scene, orders: int) -> tuple[float, ...]:
    """One value for each of `QUANTITIES`."""
    began = sum(stage.processor_seconds(scene).values())
    _signal(scene, (scene.contender.web,), signal.SIGCONT)
    last_order = last_order_id(scene)
    load = await place_many(scene, Scale(), orders)
    while rows_of(scene, UNPUBLISHED)[0][0]:  # noqa: ASYNC110 -- in the database of another process
        await asyncio.sleep(POLL_SECONDS)
    _signal(scene, scene.contender.workers, signal.SIGCONT)
    drained = await drain(scene, orders, last_order)
    _signal(scene, ALL, signal.SIGSTOP)
    processor_seconds = sum(stage.processor_seconds(scene).values()) - began
    return load.rate, drained.rate, processor_seconds / orders * 1000


def _signal(scene: Scene, programs: Sequence[Program], number: signal.Signals) -> None:
    for program in programs:
        scene.signal(program, number)


def _show(name: str, own: Sequence[float], others: Sequence[float]) -> None:
    ratios = [mine / other for mine, other in zip(own, others, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    rows = [
        ("this version", f"{median(own):,.4g}", " ".join(f"{value:.4g}" for value in own)),
        ("the other", f"{median(others):,.4g}", " ".join(f"{value:.4g}" for value in others)),
        ("ratio", f"{median(ratios):.3f}", f"half of them between {low:.2f} and {high:.2f}"),
    ]
    print("\n".join(markdown_table((name, "median", "each turn"), rows)), "\n")


if __name__ == "__main__":
    typer.run(main)

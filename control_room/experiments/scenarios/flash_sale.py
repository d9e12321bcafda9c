"""A flash sale: orders come in much faster than they can be paid."""

from collections.abc import Mapping

from control_room.experiments.flash_sale import Progress, SaleFailed, sell
from control_room.experiments.scenarios.scenario import NotSeen, Outcome, Say, Scenario, Setting, Stage

SLOW_MILLISECONDS = 500.0


async def play(stage: Stage, chosen: Mapping[str, int], say: Say) -> Outcome:
    """Customers come at random times, whether or not those before them are answered."""
    count, seconds = chosen["orders"], chosen["seconds"]

    def tell(progress: Progress) -> None:
        say(f"{progress.accepted:,} of {count:,} accepted")

    try:
        sale = await sell(stage.addresses.services["order_service"], count, seconds, tell)
    except SaleFailed as error:
        raise NotSeen(str(error)) from error
    half, most = (1000 * sale.latency_seconds[percent] for percent in ("p50", "p99"))
    return Outcome(
        expected=f"All {count:,} orders are accepted, 99 of 100 within {SLOW_MILLISECONDS:.0f} ms, "
        "however long payment takes.",
        seen=f"{sale.accepted:,} of {count:,} accepted; half within {half:.0f} ms, 99 of 100 within {most:.0f} ms. "
        "What waits now is worked off: watch the backlog.",
        held=sale.accepted == count and most <= SLOW_MILLISECONDS,
    )


SCENARIO = Scenario(
    name="flash-sale",
    title="Flash sale",
    look_for="Orders pour in. Each is answered in milliseconds, the queue 'To be charged' fills, and is worked off at "
    "the pace of the payments.",
    play=play,
    settings=(Setting("orders", "orders", 3000, 10, 100_000), Setting("seconds", "within seconds", 10, 1, 300)),
    limit_seconds=400,
)

"""A flash sale: orders come in much faster than they can be paid."""

from control_room.experiments.flash_sale import SaleFailed, sell
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting
from control_room.experiments.traffic import LoadReport, Unexpected

SLOW_MILLISECONDS = 500.0


async def play(playing: Playing) -> Outcome:
    """Customers come at random times, whether or not those before them are answered."""
    count, seconds = playing.chosen["orders"], playing.chosen["seconds"]

    def on_report(report: LoadReport) -> None:
        playing.say(f"{report.accepted:,} of {count:,} accepted")

    try:
        sale = await sell(playing.orders_url, count, seconds, on_report)
    except SaleFailed as error:
        raise Unexpected(str(error)) from error
    half, most = (1000 * sale.latency_seconds[percent] for percent in ("p50", "p99"))
    return Outcome(
        expected=f"All {count:,} orders are accepted, 99 of 100 within {SLOW_MILLISECONDS:.0f} ms, "
        "however long payment takes.",
        seen=f"{sale.accepted:,} of {count:,} accepted; half within {half:.0f} ms, 99 of 100 within {most:.0f} ms. "
        "The backlog is worked off from now on: watch it.",
        held=sale.accepted == count and most <= SLOW_MILLISECONDS,
    )


SCENARIO = Scenario(
    name="flash-sale",
    title="Flash sale",
    look_for="Many orders come at once. Each is answered in milliseconds, the queue 'To be charged' fills, and is "
    "worked off at the pace of the payments.",
    play=play,
    settings=(Setting("orders", "orders", 3000, 10, 100_000), Setting("seconds", "within seconds", 10, 1, 300)),
    limit_seconds=400,
)

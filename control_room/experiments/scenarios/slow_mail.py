"""A mail server that takes its time: the kitchen must not wait for it."""

from collections.abc import Mapping
from typing import Any

from control_room.experiments.scenarios.mail_server import slow_mail_server
from control_room.experiments.scenarios.scenario import Outcome, Say, Scenario, Setting, Stage
from control_room.experiments.scenarios.system import customers, told_after_seconds, until
from control_room.experiments.tour.system import visit

MAIL_SECONDS = 2.0
KITCHEN_WITHIN_SECONDS = 5.0
PATIENCE_SECONDS = 120.0


async def play(stage: Stage, chosen: Mapping[str, int], say: Say) -> Outcome:
    """A real SMTP server that answers each mail after two seconds."""
    if stage.mail is None:
        raise ValueError("no mail route")
    count = chosen["orders"]
    async with slow_mail_server(MAIL_SECONDS) as url, visit(stage.addresses) as system:
        say("the notification service starts again, with a slow mail server")
        try:
            await stage.mail.lead_to(url)
            await system.wait_until_ready(30)
            async with customers(stage.addresses) as some:
                placed = await some.order_at_once(["tok_visa"] * count)
            ids = [each.order_id for each in placed]
            orders = await until(
                system, ids, _is_told, PATIENCE_SECONDS, "told everyone", lambda done: say(f"{done} of {count} told")
            )
        finally:
            say("the usual mail server comes back")
            await stage.mail.lead_to("")
        await system.wait_until_ready(30)
    kitchen, email = _slowest(orders, "restaurant"), _slowest(orders, "email")
    return Outcome(
        expected=f"The kitchen has every ticket within {KITCHEN_WITHIN_SECONDS:.0f} s; only the emails are late.",
        seen=f"the kitchen's last ticket came after {kitchen:.1f} s, the last email after {email:.1f} s",
        held=kitchen < KITCHEN_WITHIN_SECONDS < email,
    )


def _is_told(order: dict[str, Any]) -> bool:
    return {"email", "restaurant"} <= {each["channel"] for each in order["notifications"]}


def _slowest(orders: Mapping[str, dict[str, Any]], channel: str) -> float:
    return max(told_after_seconds(order, channel) or 0.0 for order in orders.values())


SCENARIO = Scenario(
    name="slow-mail",
    title="A slow mail server",
    look_for="A mail server takes two seconds for each email. Emails pile up in their own queue, and kitchen tickets "
    "go out as fast as ever.",
    play=play,
    settings=(Setting("orders", "orders", 40, 30, 300),),
    needs=("mail",),
    limit_seconds=240,
)

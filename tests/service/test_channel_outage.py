"""A channel whose receiver fails or is away: its notices wait, the other channels go on, each arrives once."""

from collections import Counter
from functools import partial
from pathlib import Path

from shared.settings import BrokerSettings
from tests.examples import payment_succeeded
from tests.receiver import receiving
from tests.service.mail import SILENCE, mail_server
from tests.service.process import running
from tests.service.wire import Wire
from tests.support import eventually

QUEUE = "notification_service.restaurant"


async def test_a_receiver_that_fails_for_everything_costs_no_attempt_and_delays_no_other_channel(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    paid = [payment_succeeded() for _ in range(12)]
    await wire.watch_dead_letters(QUEUE)
    async with (
        receiving() as kitchen,
        running(
            "notification_service",
            module_broker_settings,
            directory,
            RESTAURANT_URL=f"http://{kitchen.address}/tickets",
            WEBHOOK_SECRET="the-tests-secret",
        ) as service,
    ):
        kitchen.answer = "503 Service Unavailable"
        for event in paid:
            wire.send(event)

        async def says_so() -> bool:
            answer = await service.http.get("/readyz")
            health = answer.json()
            assert (answer.status_code, health["problems"]) == (200, [])
            return health["status"] == "degraded" and "the channel restaurant, since 2" in health["degraded"][0]

        await eventually(says_so, 15, "/readyz to say degraded")
        probes = len(kitchen.requests)
        await eventually(lambda: len(kitchen.requests) > probes, 15, "a probe")
        for event in paid:  # emails do not wait for the kitchen
            await wire.event("notifications", event.subject, "notification.delivered.v1")
        assert await service.metric("degraded", system="the channel restaurant") == 1

        kitchen.requests.clear()
        kitchen.answer = "200 OK"
        await eventually(lambda: len({each.json["order_id"] for each in kitchen.requests}) == len(paid), 30, "tickets")
        assert set(Counter(each.json["order_id"] for each in kitchen.requests).values()) == {1}
        assert await service.metric("degraded") == 0
    assert wire.parked[QUEUE] == []


async def test_a_name_that_does_not_resolve_and_a_silent_server_hold_the_mail_beyond_a_restart(
    module_broker_settings: BrokerSettings, directory: Path, wire: Wire
) -> None:
    """`running` checks that the service stops in time, with status 0, also while a mail is being sent."""
    notifying = partial(running, "notification_service", module_broker_settings, directory)
    wire.send(paid := payment_succeeded())
    async with notifying(EMAIL_URL="smtp://user:s3cret@no-such-host.invalid") as service:
        await eventually(lambda: "mail_server.unavailable" in service.log.read_text(), 30, "the outage to be logged")
    assert "s3cret" not in service.log.read_text()
    assert "stop_timed_out" not in service.log.read_text()  # a mail that waits does not hold up the stop
    async with mail_server({"DOT": SILENCE}) as silent, notifying(EMAIL_URL=silent.url):
        await eventually(lambda: paid.subject in str(silent.mails), 20)
    async with mail_server() as mail, notifying(EMAIL_URL=mail.url):
        await eventually(lambda: [paid.subject in str(each) for each in mail.mails] == [True], 30, "the mail to arrive")

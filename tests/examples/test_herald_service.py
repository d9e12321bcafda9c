"""The herald service alone: its rules, its handler killed between every two of its steps, and its HTTP call."""

from pathlib import Path

import httpx

from herald_service import api, store
from herald_service.handlers import subscriptions
from herald_service.herald import entry_of, event_of
from shared.events import PaymentSucceeded
from shared.http.application import create_app
from shared.messaging.processor import Subscription
from shared.persistence.keyed import Recording
from shared.testing.crash_points import CrashPoints, Process
from shared.testing.parts import new_database, ready
from tests import examples

EVENT = examples.example_of(PaymentSucceeded)


def handler(process: Process) -> Subscription:
    return subscriptions(process.database, 1)[0]


def test_an_entry_and_its_event_say_what_caused_them() -> None:
    entry = entry_of(EVENT)
    published = event_of(entry, EVENT)
    assert entry.cause == published.data.cause == "payment.succeeded.v1"
    assert (published.type, published.subject) == ("herald.announced.v1", EVENT.subject)


async def test_the_work_is_done_once_whenever_the_process_is_killed(crash_points: CrashPoints) -> None:
    steps = await crash_points.check(handler, EVENT, tables=store.metadata, outbox=store.outbox)
    assert steps == ["look-up", "record", "ack", "publish", "forget"]


async def test_the_entry_of_an_order_can_be_read(tmp_path: Path) -> None:
    app = create_app(title="herald", description="", operator_token="")
    app.include_router(api.router)
    url = f"sqlite:///{tmp_path / 'herald.db'}"
    async with (
        ready(new_database(url, store.metadata, name="herald")) as app.state.resources,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://herald") as http,
    ):
        assert (await http.get(f"/herald/{EVENT.subject}")).status_code == 404
        entry = entry_of(EVENT)
        await app.state.resources.write(store.records.record, Recording(entry, event_of(entry, EVENT)))
        assert (await http.get(f"/herald/{EVENT.subject}")).json()["cause"] == "payment.succeeded.v1"

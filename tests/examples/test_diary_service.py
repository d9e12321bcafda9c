"""The diary service alone: its rules, its handler killed between every two of its steps, and its HTTP call."""

from pathlib import Path

import httpx

from diary_service import api, store
from diary_service.diary import Entry, entry_of
from diary_service.handlers import subscriptions
from shared.events import PaymentSucceeded
from shared.http.application import create_app
from shared.messaging.processor import Subscription
from shared.testing.crash_points import CrashPoints, Process
from shared.testing.parts import new_database, ready
from tests import examples

EVENT = examples.example_of(PaymentSucceeded)


def handler(process: Process) -> Subscription:
    return subscriptions(process.database, 1)[0]


def test_an_entry_says_what_caused_it() -> None:
    assert entry_of(EVENT) == Entry(EVENT.subject, "payment.succeeded.v1", EVENT.time)


async def test_an_order_has_one_entry_whenever_the_process_is_killed(crash_points: CrashPoints) -> None:
    assert await crash_points.check(handler, EVENT, tables=store.metadata) == ["record", "ack"]


async def test_the_entry_of_an_order_can_be_read(tmp_path: Path) -> None:
    app = create_app(title="diary", description="", operator_token="")
    app.include_router(api.router)
    url = f"sqlite:///{tmp_path / 'diary.db'}"
    async with (
        ready(new_database(url, store.metadata, name="diary")) as app.state.resources,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://diary") as http,
    ):
        assert (await http.get(f"/diary/{EVENT.subject}")).status_code == 404
        await app.state.resources.write(store.record, entry_of(EVENT))
        assert (await http.get(f"/diary/{EVENT.subject}")).json()["cause"] == "payment.succeeded.v1"

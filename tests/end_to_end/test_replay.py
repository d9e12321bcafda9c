"""`order-rail replay` and the analytics on a real system: exact against the audit, late, interrupted, from anywhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import create_engine, text

from control_room.analytics import follow
from control_room.analytics.check import differences
from control_room.analytics.follow import Analytics, totals_of
from control_room.analytics.store import AnalyticsStore
from control_room.background import running
from control_room.launcher.system import System
from control_room.operations.addresses import DISCARDS, SystemAddresses
from control_room.operations.prune import prune
from shared.contract import EVENTS
from shared.events import OrderPlaced, encode
from shared.ids import first_id, new_id
from shared.management import Management, ManagementUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from shared.messaging.stream import StreamReader, StreamWriter, end_of
from shared.topology.provision import apply
from tests import examples
from tests.conftest import Broker
from tests.order_rail import file_of, final_audit, order_rail
from tests.rail import Rail
from tests.support import eventually, ready

TOKENS = ("tok_visa", "tok_declined", "tok_flaky", "tok_timeout", "tok_broken", "tok_refund_fails")
RETAIN_DAYS = 90
PRUNED_BEFORE = datetime.now(UTC) - timedelta(days=RETAIN_DAYS)
ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.01", "EVENTS_KEPT_HOURS": "1"}


@pytest_asyncio.fixture(scope="module")
async def busy(system: System) -> System:
    """A system after orders of all kinds, some cancelled, with services killed meanwhile, and events copied twice.

    The stream also has an order that is pruned.
    """
    async with Rail(system).ready() as rail:
        async with rail.under_load(TOKENS * 12):
            for process in system.processes.values():
                await process.kill()
        await rail.is_ready()
        answers = await asyncio.gather(*(cancel(rail, order_id) for order_id in rail.accepted[::4]))
        assert 202 in answers
        assert set(answers) <= {202, 409}  # a declined order can't be cancelled
    await final_audit(system)
    await copy_again(system)
    async with ready(StreamWriter(system.broker_settings.rabbitmq_url, "test")) as writer:
        await write(writer, [examples.order_placed(first_id(PRUNED_BEFORE - timedelta(days=1)))])
    await prune(SystemAddresses.of(system.environment), RETAIN_DAYS, system.run.path / DISCARDS)
    return system


async def cancel(rail: Rail, order_id: str) -> int:
    return (await rail.http.post(f"{rail._urls['order_service']}/orders/{order_id}/cancel")).status_code


async def copy_again(system: System) -> None:
    """Write the oldest events to the stream once more, as relays do that died before they knew of the first time."""
    rabbitmq_url = system.broker_settings.rabbitmq_url
    async with aclosing(StreamReader(rabbitmq_url, "test", "first").read()) as arrivals:
        bodies = [entry.body for entry in (await anext(arrivals)).entries]
    async with ready(Publisher(rabbitmq_url, "test")) as publisher:
        copies = [Message("", EVENTS, body, message_id=new_id()) for body in bodies]
        assert not any(await publisher.publish_all(copies))


@asynccontextmanager
async def following(system: System, url: str) -> AsyncIterator[Analytics]:
    """The analytics follow the system's stream until the block ends, as in the control room."""
    store = AnalyticsStore(url)
    store.prepare()
    store.forget(PRUNED_BEFORE)
    analytics = Analytics(system.broker_settings.rabbitmq_url, store)
    async with running(analytics.run(), "analytics"):
        yield analytics
    store.close()


def url_in(directory: Path) -> str:
    return f"sqlite:///{directory / 'analytics.db'}"


async def agree(system: System, analytics: Analytics) -> bool:
    found = differences(analytics.store, await final_audit(system))
    assert not found, found
    return True


async def test_a_replay_agrees_with_the_audit_on_every_order_and_all_money(busy: System) -> None:
    ended = await order_rail("replay", "--from", "first", "--check", *file_of(busy))

    assert ended.status == 0, ended.output + ended.errors
    assert "The stream of events and the audit agree on" in ended.output
    assert "Left out: orders from before" in ended.output
    assert "dish: Cola" in ended.output


async def test_a_late_consumer_catches_up_while_orders_come_in_and_after_a_restart_counts_once(
    busy: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.1)
    url = url_in(tmp_path)
    async with Rail(busy).ready() as rail, rail.under_load(TOKENS * 8):
        for least in (1, 100):
            async with following(busy, url) as analytics:
                await eventually(partial(has_counted, analytics, least), 20, "events to be counted")
    async with following(busy, url) as analytics:
        await eventually(lambda: agree(busy, analytics), 60, "the analytics to agree with the audit")
        await eventually(lambda: analytics.view.totals.get("orders", 0) > 0, 10, "the view to be drawn")
        totals = totals_of(analytics.store)
        await eventually(lambda: analytics.view.totals == totals, 10, "the view to be up to date")
        assert sum(each.orders for each in analytics.view.minutes) == totals["orders"]
        assert analytics.view.dishes[0][0] == "Cola 0.33 l"
        assert any(each.p95 for each in analytics.view.minutes)


def has_counted(analytics: Analytics, events: int) -> bool:
    return analytics.view.events >= events


async def test_the_analytics_go_on_after_their_stream_was_made_anew(
    busy: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.1)
    settings = busy.broker_settings
    async with following(busy, url_in(tmp_path)) as analytics, Rail(busy).ready() as rail:
        await eventually(lambda: agree(busy, analytics), 60, "the analytics to agree with the audit")
        async with Management(settings) as management:
            await management.delete("queues", settings.vhost, EVENTS)
            await eventually(lambda: exists(management, EVENTS), 20, "it to be put back")
        await rail.place()
        await eventually(lambda: agree(busy, analytics), 60, "the analytics to agree again")
    ended = await order_rail("replay", "--from", "first", "--check", *file_of(busy))
    assert ended.status == 1
    assert "DIFFERENT orders: the audit says" in ended.output


async def exists(management: Management, queue: str) -> bool:
    try:
        return await management.find("queues", management.vhost, queue) is not None
    except ManagementUnavailable as error:  # RabbitMQ 3.10 answers with 500 while a stream is being deleted
        raise AssertionError(str(error)) from error


async def test_from_an_offset_or_a_time_only_what_comes_after_is_counted(busy: System, tmp_path: Path) -> None:
    rabbitmq_url = busy.broker_settings.rabbitmq_url
    end = await end_of(rabbitmq_url, "test")
    now = datetime.now(UTC)
    orders = [examples.order_placed(new_id()).model_copy(update={"time": now + timedelta(hours=1)}) for _ in range(3)]
    early = examples.order_placed(new_id()).model_copy(update={"time": now - timedelta(hours=1)})
    async with ready(StreamWriter(rabbitmq_url, "test")) as writer:
        await write(writer, [early, *orders])

    from_offset, from_time = f"sqlite:///{tmp_path / 'offset.db'}", f"sqlite:///{tmp_path / 'time.db'}"
    offset = 0 if end is None else end + 1
    for begin, into in ((str(offset), from_offset), (now.isoformat(), from_time)):
        ended = await order_rail("replay", "--from", begin, "--into", into, *file_of(busy))
        assert ended.status == 0, ended.errors
    assert (orders_in(from_offset), orders_in(from_time)) == (4, 3)

    again = await order_rail("replay", "--from", "first", "--into", from_offset, *file_of(busy))
    assert (again.status, orders_in(from_offset)) == (2, 4)
    assert "has counted 4 events already; name an empty database" in again.errors
    late = await order_rail("replay", "--from", (now + timedelta(days=1)).isoformat(), *file_of(busy))
    assert (late.status, "Replayed 0 events" in late.output) == (0, True)


async def write(writer: StreamWriter, events: list[OrderPlaced]) -> None:
    messages = [Message("orders", event.type, encode(event), message_id=event.id) for event in events]
    assert await writer.write(messages)


def orders_in(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found: int = connection.execute(text("SELECT count(*) FROM analytics_orders")).scalar_one()
    engine.dispose()
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--from", "yesterday"), "--from: expected first, an offset such as 1200, or a time with its zone"),
        (("--from", "2026-11-27T12:00:00"), "may be any time zone's; add Z for UTC"),
        (("--from", "99999999"), "the stream has no offset 99999999: its last is "),
        (("--from", "0", "--check"), "--check needs --from first"),
        (("--from", "first", "--into", "mysql://here/db"), "--into: expected "),
        (("--from", "first", "--into", "postgresql://me:secret@127.0.0.1:1/db"), "127.0.0.1:1/db can't be used: "),
        (("--from", "first", "--environment-file", "nowhere"), "no system runs here: there is no nowhere"),
    ],
)
async def test_what_can_not_be_replayed_is_said_in_a_sentence(
    busy: System, arguments: tuple[str, ...], expected: str
) -> None:
    where = () if "--environment-file" in arguments else file_of(busy)
    ended = await order_rail("replay", *arguments, *where)

    assert (ended.status, expected in ended.errors) == (2, True), ended.errors
    assert "secret" not in ended.errors
    assert ended.errors.count("\n") == 1


async def test_where_no_events_are_kept_a_replay_says_so(busy: System, broker: Broker) -> None:
    url = broker.amqp_url(f"empty-{new_id()}")
    settings = busy.broker_settings.model_copy(update={"rabbitmq_url": url, "events_kept_hours": 0})
    await apply(settings)
    ended = await order_rail("replay", "--from", "first", **{**busy.environment, "RABBITMQ_URL": url})
    async with Management(settings) as management:
        await management.delete("vhosts", settings.vhost)

    assert (ended.status, "there is no stream of events" in ended.errors) == (2, True), ended.errors


async def test_the_services_do_not_notice_a_replay(busy: System) -> None:
    async with Rail(busy).ready() as rail:
        before = [await rail.audit(name) for name in busy.processes]
        published = await rail.metric("order_service", "messages_published")
        await asyncio.gather(*(order_rail("replay", "--from", "first", *file_of(busy)) for _ in range(2)))
        assert [await rail.audit(name) for name in busy.processes] == before
        assert await rail.metric("order_service", "messages_published") == published

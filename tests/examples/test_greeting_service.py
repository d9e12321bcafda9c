"""The greeting service alone: its rules, its handler killed between every two of its steps, and its HTTP calls."""

from pathlib import Path

import httpx
import pytest

from greeting_service import api, store
from greeting_service.events import GreetingRequested
from greeting_service.greetings import event_of, requested, written
from greeting_service.handlers import subscriptions
from shared.events import decode, encode
from shared.http.application import create_app
from shared.messaging.processor import Subscription
from shared.messaging.retry import PermanentError
from shared.testing.crash_points import CrashPoints, Process
from shared.testing.parts import new_database, outbox_events, ready


def request_of(name: str, language: str) -> GreetingRequested:
    """The event as it comes out of the broker."""
    event = decode(encode(event_of(requested(name, language))))
    assert isinstance(event, GreetingRequested)
    return event


EVENT = request_of("Ada", "en")


def handler(process: Process) -> Subscription:
    return subscriptions(process.database, 1)[0]


def test_a_greeting_is_in_the_language_that_was_asked_for() -> None:
    assert written(request_of("Ada", "en")).text == "Hello, Ada!"
    assert written(request_of("Ada", "fr")).text == "Bonjour, Ada!"


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(PermanentError, match="there is no word for 'tlh'") as refused:
        written(request_of("Ada", "tlh"))
    assert refused.value.reason == "unknown-language"


async def test_a_greeting_is_written_once_whenever_the_process_is_killed(crash_points: CrashPoints) -> None:
    steps = await crash_points.check(handler, EVENT, tables=store.metadata, outbox=store.outbox)
    assert steps == ["look-up", "record", "ack", "publish", "forget"]


async def test_a_request_is_answered_once_it_is_kept_together_with_its_event(tmp_path: Path) -> None:
    app = create_app(title="greeting", description="", operator_token="")
    app.include_router(api.router)
    url = f"sqlite:///{tmp_path / 'greeting.db'}"
    async with (
        ready(new_database(url, store.metadata, name="greeting")) as app.state.resources,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://greeting") as http,
    ):
        answer = await http.post("/greetings", json={"name": "Ada"})
        assert answer.status_code == 202
        assert (await http.get(answer.headers["Location"])).json() == answer.json()
        (event,) = await outbox_events(app.state.resources, store.outbox)
        assert (event.type, event.subject) == ("greeting.requested.v1", answer.json()["greeting_id"])
        for wrong in ({}, {"name": " "}, {"name": "a\0b"}, {"name": "Ada", "language": "English"}, {"nome": "Ada"}):
            assert (await http.post("/greetings", json=wrong)).status_code == 422, wrong
        for unknown in ("1", EVENT.subject):
            assert (await http.get(f"/greetings/{unknown}")).status_code == 404

"""Text messages and push notifications by Apprise, which knows over a hundred providers by the schemes of their URLs.

`{to}` in the URL stands for the recipient. Apprise blocks, so each notice is sent by a thread of its own. Apprise says
only whether it worked; why not is in its log, which is collected here instead of being written, since it may hold what
is secret: passwords and tokens of the URL are taken out of it.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from notification_service.notifications import Notice
from notification_service.templates import Templates, Words
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError, Unavailable
from shared.urls import HOW_TO_WRITE

CONNECTIONS = 10
SEND_SECONDS = 15.0
"""The queue's contract allows an attempt 20 s. A URL's own limits (`cto=`, `rto=`) are 4 s each."""

THREADS = 3 * CONNECTIONS
"""Threads whose provider did not answer in time go on waiting. With so many of them no further notice is sent."""

TO = "{to}"
SAMPLES = {"sms": "+4915112345678", "push": "customer"}
"""By channel, a recipient that the URL is tried with at the start."""

RECIPIENT = re.compile(r"[A-Za-z0-9_+:.=@~-]{1,512}")
"""What can't be taken for a part of the URL or for a list of recipients, by any of Apprise's many parsers."""

SECRET_LENGTH = 3
MESSAGE_LENGTH = 300

Result = TypeVar("Result")


class AppriseChannel:
    """Sends each notice with one call of Apprise. Raises `ValueError` for a URL that it can't use."""

    concurrency = CONNECTIONS

    def __init__(self, channel: str, url: str, templates: Templates) -> None:
        _check(url)
        if channel in SAMPLES and TO not in url:
            raise ValueError(f"expected {TO} where the recipient belongs, such as ntfy://host/{TO}")
        self._url, self._templates = url, templates
        self._scheme = url.partition("://")[0].lower()
        self._secrets = _secrets(url)
        self._threads: set[threading.Thread] = set()
        if problem := self._problem(SAMPLES.get(channel, "kitchen")):
            raise ValueError(problem)

    async def send(self, notice: Notice) -> None:
        """As `NotificationChannel.send`."""
        if not RECIPIENT.fullmatch(notice.recipient):
            raise PermanentError("no-recipient", f"the order's recipient can't be part of a URL: {RECIPIENT.pattern}")
        words = self._templates.words(notice)
        url = self._url.replace(TO, quote(notice.recipient, safe=""))
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        if len(self._threads) >= THREADS:
            raise NotReady(f"{self._scheme}: {THREADS} calls have no answer yet")
        try:
            async with asyncio.timeout(SEND_SECONDS):
                error = await self._in_thread(lambda: self._notify(url, words))
        except TimeoutError:
            raise OutcomeUnknown(f"{self._scheme}: no answer in time") from None
        if error is None:
            return
        shown = self._shown(error, notice.recipient)
        status = re.search(r"error=([1-5])\d\d\b", error)
        kind = OutcomeUnknown if status is None else Unavailable if status[1] == "5" else TransientError
        raise kind(f"{self._scheme}: {shown}")

    async def close(self) -> None:
        """Nothing: each call has had connections of its own."""

    def _problem(self, sample: str) -> str | None:
        """Why the URL can't be used, or None."""
        with _collected() as lines:
            plugin = _plugin(self._url.replace(TO, quote(sample, safe="")))
        if plugin is not None:
            return None
        why = self._shown(" ".join(lines), sample)
        return f"expected a URL that Apprise knows, such as ntfy://host/{TO} (https://appriseit.com); it says: {why}"

    def _notify(self, url: str, words: Words) -> str | None:
        """On a thread: None if it worked, else what Apprise says."""
        with _collected() as lines:
            plugin = _plugin(url)
            if plugin is not None and _notified(plugin, words):
                return None
        return " ".join(lines) or "Apprise does not say why"

    def _shown(self, text: str, recipient: str) -> str:
        """What Apprise said, as one line without secrets and without the customer's address."""
        for secret in (*self._secrets, recipient, quote(recipient, safe="")):
            text = text.replace(secret, "***")
        return "".join(sign if sign.isprintable() else " " for sign in text)[:MESSAGE_LENGTH]

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        """On a thread of its own: a pool's threads would be waited for when the service stops."""
        outcome: Future[Result] = Future()
        thread = threading.Thread(target=_run, args=(function, outcome), daemon=True, name=f"apprise {self._scheme}")
        self._threads.add(thread)
        thread.start()
        return await asyncio.wrap_future(outcome)


def _run(function: Callable[[], Result], outcome: "Future[Result]") -> None:
    with suppress(InvalidStateError):  # nobody waits for it any more
        try:
            outcome.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised in the event loop
            outcome.set_exception(error)


def _plugin(url: str) -> Any:
    """Apprise's object for a URL, without its pauses between two calls; None if it knows no such URL."""
    import apprise  # noqa: PLC0415 - takes half a second, which only those who use it should wait

    # Without Apprise's own pool of threads and its timeout: this thread does the work, and `send` gives up on it.
    asset = apprise.AppriseAsset(
        async_mode=False, service_timeout=0, secure_logging=True, storage_mode=apprise.PersistentStoreMode.MEMORY
    )
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is not None:
        plugin.request_rate_per_sec = 0
    return plugin


def _notified(plugin: Any, words: Words) -> bool:
    import apprise  # noqa: PLC0415

    sender = apprise.Apprise(asset=plugin.asset)
    sender.add(plugin)
    return bool(sender.notify(words.text.strip(), words.subject, body_format=apprise.NotifyFormat.TEXT))


def _check(url: str) -> None:
    """Raises `ValueError` for a URL in which a part of a password may be taken for a host or a path, and be shown."""
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        raise ValueError("expected a URL for Apprise without spaces and control characters; percent-encode them")
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.isalnum():
        raise ValueError(f"expected a URL for Apprise, such as ntfy://host/{TO}")
    address, *more = re.split("[/?#]", rest, maxsplit=1)
    host = address.rpartition("@")[2]
    if url.count("@") > 1 or "@" in "".join(more) or ("@" in address and not re.search(r"^[^:]*(:\d+)?$|\]", host)):
        raise ValueError(f"expected a URL for Apprise with one @ at most, followed by a host; {HOW_TO_WRITE}")


def _secrets(url: str) -> list[str]:
    """Every part of a URL that may be secret, longest first: for many providers a token stands where hosts do."""
    address, _, query = url.partition("://")[2].partition("?")
    parts = [*re.split("[/:@#,]+", address), *(pair.partition("=")[2] for pair in query.split("&"))]
    found = {form for part in parts if part != TO for form in (part, unquote(part)) if len(form) >= SECRET_LENGTH}
    return sorted(found, key=len, reverse=True)


class _Collector(logging.Handler):
    """Collects Apprise's warnings and errors by thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.of_thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        lines = getattr(self.of_thread, "lines", None)
        if lines is not None:
            lines.append(record.getMessage())


_collector = _Collector()


@contextmanager
def _collected() -> Iterator[list[str]]:
    """What Apprise logs on this thread while the block runs. Nothing of it reaches the service's log."""
    library = logging.getLogger("apprise")
    library.propagate = False
    if _collector not in library.handlers:
        library.addHandler(_collector)
    lines: list[str] = []
    _collector.of_thread.lines = lines
    try:
        yield lines
    finally:
        del _collector.of_thread.lines

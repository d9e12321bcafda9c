"""Notices to a program over HTTP (docs/webhooks.md): signed, with an idempotency key, and without redirects.

- 2xx: delivered. 3xx: refused for good, since the address in the settings is not the right one any more.
- 408, 425, 429 and 5xx: tried again, after the time of `Retry-After` if there is one. Any other 4xx: refused for good.
- No connection: the receiver is away; the notice waits and spends no attempt. No answer: it may have the notice.
"""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from urllib.parse import urlsplit

import httpx

from notification_service.notifications import Notice
from notification_service.templates import Templates
from shared.messaging.retry import NoAnswer, NotReady, PermanentError, TransientError, Unavailable
from shared.urls import checked_url

SCHEMES = ("http", "https")
FORM = "https://host/path"

CONNECTIONS = 20
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""From the beginning to the answer. The queue's contract allows an attempt 20 s."""

BODY_SECONDS, BODY_BYTES = 1.0, 64 * 1024
"""How much of an answer's body is read, so that its connection can be used again; nothing in it is of interest."""

LATER = frozenset({408, 425, 429})
"""The answers of 4xx that say that another attempt may work."""

SIGNATURE, TIMESTAMP = "Order-Rail-Signature", "Order-Rail-Timestamp"


class WebhookChannel:
    """Sends each notice as a POST. `secret` is the key of the signatures."""

    concurrency = CONNECTIONS

    def __init__(self, url: str, templates: Templates, secret: str) -> None:
        parts = checked_url(url, SCHEMES, FORM)
        if parts.fragment:
            raise ValueError(f"expected {FORM} without a fragment")
        if not secret:
            raise ValueError("a webhook needs WEBHOOK_SECRET or WEBHOOK_SECRET_FILE, the key of its signatures")
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError(f"expected {FORM}, with a host name that can be looked up") from None
        self._templates, self._secret = templates, secret.encode()
        # Not the path either: many receivers have a token in it.
        self._name = f"the webhook at {urlsplit(url).hostname}:{self._url.port or parts.scheme}"

    async def send(self, notice: Notice) -> None:
        """As `NotificationChannel.send`."""
        body = body_of(notice, self._templates)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "order-rail",
            "Idempotency-Key": f'"{notice.idempotency_key}"',
            **signed(body, self._secret, int(time.time())),
        }
        client = self._client
        request = client.build_request("POST", self._url, content=body, headers=headers)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NotReady(f"{self._name} can't be reached: {_text(error)}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise NoAnswer(f"{self._name} gave no answer: {_text(error)}") from error
        await _leave(answer)
        _check(answer, self._name)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        # HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE count; authorities are the machine's own, as everywhere.
        return httpx.AsyncClient(
            verify=ssl.create_default_context(),
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            follow_redirects=False,
        )


def body_of(notice: Notice, templates: Templates) -> bytes:
    """The same bytes for every attempt: `id` is the idempotency key, here under the signature."""
    words = templates.words(notice)
    content = {
        "id": notice.idempotency_key,
        "notice": notice.kind,
        "channel": notice.channel,
        "order_id": notice.order_id,
        "recipient": notice.recipient,
        "subject": words.subject,
        "text": words.text,
        **({"html": words.html} if words.html else {}),
        "items": [item.model_dump() for item in notice.order.items],
        "total": notice.order.total.model_dump(),
        "amount": notice.amount.model_dump(),
    }
    return json.dumps(content, separators=(",", ":")).encode()


def signed(body: bytes, secret: bytes, timestamp: int) -> dict[str, str]:
    """The headers that prove who sent a body, and when."""
    signature = hmac.new(secret, b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return {TIMESTAMP: str(timestamp), SIGNATURE: f"sha256={signature}"}


def _check(answer: httpx.Response, name: str) -> None:
    code = answer.status_code
    said = f"{name} answers {code}"
    if 200 <= code < 300:
        return
    if code in LATER or code >= 500:
        kind = TransientError if code in LATER else Unavailable
        raise kind(said, retry_after_seconds=_retry_after(answer) or (1.0 if code == 429 else 0.0))
    if code < 400:
        raise PermanentError("webhook-refused", f"{said}, and redirects are not followed: set its new address")
    raise PermanentError("webhook-refused", said)


def _retry_after(answer: httpx.Response) -> float:
    """In seconds; 0 without the header, or if it can't be read."""
    given = answer.headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given[:9])
    with suppress(ValueError, OverflowError):
        at = parsedate_to_datetime(given)
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0


async def _leave(answer: httpx.Response) -> None:
    """Read a short body to its end, and close the connection otherwise."""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            read = 0
            async for part in answer.aiter_raw():
                read += len(part)
                if read > BODY_BYTES:
                    break
    with suppress(httpx.HTTPError):
        await answer.aclose()


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__

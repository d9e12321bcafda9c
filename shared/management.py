"""A client of RabbitMQ's management HTTP API. Its errors say what to do, and never show the password."""

from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from shared.settings import BrokerSettings

TIMEOUT_SECONDS = 10.0


class ManagementError(Exception):
    """A call of the management API failed."""


class ManagementUnavailable(ManagementError):
    """No usable answer came; trying again later may help."""


class ManagementDenied(ManagementError):
    """The broker does not know the user, or does not allow it the action."""


class Management:
    """An authenticated client and an async context manager; its first call opens a connection.

    Path segments are percent-encoded here, so a virtual host may be called `a/b c`. Every call may raise
    `ManagementError`; a malformed URL raises `ManagementUnavailable` at once.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        parts = urlsplit(settings.management_url)
        self.vhost = settings.vhost
        self.user = unquote(parts.username or "guest")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._name = f"RabbitMQ's management API at {self.url}"
        self._check_url()
        self._http = httpx.AsyncClient(
            auth=(self.user, unquote(parts.password or "guest")),
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # no HTTP proxy, as for AMQP
            verify=settings.management_tls or False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.aclose()

    async def find(self, *path: str, **query: str) -> Any:
        """GET; None where the broker says 404."""
        response = await self._call("GET", path, params=query)
        return None if response.status_code == 404 else self._json(response)

    async def put(self, *path: str, body: dict[str, Any]) -> None:
        """PUT: create it, unless it exists with the same properties."""
        await self._call("PUT", path, json=body)

    async def post(self, *path: str, body: dict[str, Any]) -> Any:
        """POST; the broker's answer, or None if it is empty."""
        response = await self._call("POST", path, json=body)
        return self._json(response) if response.content else None

    async def delete(self, *path: str) -> None:
        """DELETE; not an error if it does not exist."""
        await self._call("DELETE", path)

    def _check_url(self) -> None:
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise self._unavailable(f"this is no URL ({error})") from None

    async def _call(self, method: str, path: tuple[str, ...], **arguments: Any) -> httpx.Response:
        url = "/".join([self.url, "api", *(quote(segment, safe="") for segment in path)])
        try:
            response = await self._http.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise self._unavailable(str(error) or type(error).__name__) from error
        action = f"{method} {' '.join(path)}"
        if response.status_code in (401, 403):
            raise ManagementDenied(
                f"{self._name} denied {action} to user {self.user!r} ({_reason(response)}). "
                "Check the user and password in RABBITMQ_MANAGEMENT_URL (or RABBITMQ_URL), "
                "and that the user has the tag `administrator`."
            )
        if response.status_code >= 500:
            raise self._unavailable(f"{response.status_code}: {_reason(response)}")
        is_gone = method == "DELETE" and response.status_code == 404
        if method != "GET" and not response.is_success and not is_gone:
            raise ManagementError(f"{self._name} refused {action} ({response.status_code}): {_reason(response)}")
        return response

    def _unavailable(self, why: str) -> ManagementUnavailable:
        return ManagementUnavailable(f"{self._name} can't be used: {why}")

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.raise_for_status().json()
        except (ValueError, httpx.HTTPStatusError):
            why = f"it answered {response.status_code} and not as RabbitMQ does; is the port right?"
            raise self._unavailable(why) from None


def _reason(response: httpx.Response) -> str:
    """The broker's own sentence, from `{"error": ..., "reason": ...}`; else the status phrase."""
    try:
        return str(response.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase

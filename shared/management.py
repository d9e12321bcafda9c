"""RabbitMQ's management HTTP API: the few calls this project makes, and errors a person can act on.

Nothing here knows the topology. No error ever shows the user's password.
"""

from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from shared.settings import BrokerSettings

TIMEOUT_SECONDS = 10.0


class ManagementError(Exception):
    """A call of the management API failed."""


class ManagementUnavailable(ManagementError):
    """Nothing usable answered at `url`; trying again later may help."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"RabbitMQ's management API at {url} can't be used: {why}")
        self.url, self.why = url, why


class ManagementDenied(ManagementError):
    """The broker knows who asks and says no, or doesn't know who asks."""

    def __init__(self, url: str, user: str, action: str, why: str) -> None:
        super().__init__(
            f"RabbitMQ's management API at {url} denied {action} to user {user!r} ({why}). "
            "Check the user and password in RABBITMQ_MANAGEMENT_URL (or RABBITMQ_URL), "
            "and that the user has the tag `administrator`."
        )
        self.url, self.user, self.action, self.why = url, user, action, why


class ManagementRefused(ManagementError):
    """The broker understood `action` and won't do it: the request, not the moment, is wrong."""

    def __init__(self, url: str, action: str, status: int, why: str) -> None:
        super().__init__(f"RabbitMQ's management API at {url} refused {action} ({status}): {why}")
        self.url, self.action, self.status, self.why = url, action, status, why


class Management:
    """An authenticated client. Use it as an async context manager; it opens connections when first asked.

    Path segments are percent-encoded here, so a virtual host may be called `a/b c`. Every call raises one of the
    errors above; a malformed URL raises `ManagementUnavailable` at once.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        parts = urlsplit(settings.management_url)
        self.vhost = settings.vhost
        self.user = unquote(parts.username or "guest")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._check_url()
        self._http = httpx.AsyncClient(
            auth=(self.user, unquote(parts.password or "guest")),
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # AMQP goes through no HTTP proxy, so its management doesn't either
            verify=settings.management_tls or False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def find(self, *path: str, **query: str) -> Any:
        """GET; None where the broker says 404."""
        response = await self._call("GET", path, params=query)
        return None if response.status_code == 404 else self._json(response)

    async def put(self, *path: str, body: dict[str, Any]) -> None:
        """PUT: create, or find that it is there already with the same properties."""
        self._expect_success(await self._call("PUT", path, json=body), "PUT", path)

    async def post(self, *path: str, body: dict[str, Any]) -> Any:
        """POST; what the broker answered, None where that was nothing."""
        response = await self._call("POST", path, json=body)
        self._expect_success(response, "POST", path)
        return self._json(response) if response.content else None

    async def delete(self, *path: str) -> None:
        """DELETE; it is no error if it was not there."""
        response = await self._call("DELETE", path)
        if response.status_code != 404:
            self._expect_success(response, "DELETE", path)

    def _check_url(self) -> None:
        try:
            httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ManagementUnavailable(self.url, f"this is no URL ({error})") from None

    async def _call(self, method: str, path: tuple[str, ...], **arguments: Any) -> httpx.Response:
        url = "/".join([self.url, "api", *(quote(segment, safe="") for segment in path)])
        try:
            response = await self._http.request(method, url, **arguments)
        except httpx.HTTPError as error:
            raise ManagementUnavailable(self.url, str(error) or type(error).__name__) from error
        if response.status_code in (401, 403):
            raise ManagementDenied(self.url, self.user, _action(method, path), _reason(response))
        if response.status_code >= 500:
            raise ManagementUnavailable(self.url, f"{response.status_code}: {_reason(response)}")
        return response

    def _expect_success(self, response: httpx.Response, method: str, path: tuple[str, ...]) -> None:
        if not response.is_success:
            raise ManagementRefused(self.url, _action(method, path), response.status_code, _reason(response))

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.raise_for_status().json()
        except (ValueError, httpx.HTTPStatusError):
            why = f"it answered {response.status_code} and not as RabbitMQ does; is the port right?"
            raise ManagementUnavailable(self.url, why) from None


def _action(method: str, path: tuple[str, ...]) -> str:
    return f"{method} {' '.join(path)}"


def _reason(response: httpx.Response) -> str:
    """The broker's own sentence, from `{"error": ..., "reason": ...}`; else the status phrase."""
    try:
        return str(response.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase

"""A client of RabbitMQ's management HTTP API. Its errors say what to do, and never show the password."""

import ssl
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from shared.settings import BrokerSettings

TIMEOUT_SECONDS = 10.0
"""Of a call; with several nodes each has its share."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


class ManagementError(Exception):
    """A call of the management API failed."""


class ManagementUnavailable(ManagementError):
    """No usable answer came; trying again later may help."""


class ManagementDenied(ManagementError):
    """The broker does not know the user, or does not allow it the action."""


class _NotThere(ManagementError):
    """404: it does not exist; or the node is starting, and knows of nothing yet."""


class Management:
    """An authenticated client and an async context manager; its first call opens a connection.

    Path segments are percent-encoded here, so a virtual host may be called `a/b c`. Every call may raise
    `ManagementError`; a malformed URL raises `ManagementUnavailable` at once. Of several nodes the one that answered
    last is asked, and the next where it does not answer.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        urls = settings.management_urls
        self._nodes = [_Node(url, settings.management_tls(url), TIMEOUT_SECONDS / len(urls)) for url in urls]
        self.vhost = settings.vhost
        self.user = self._nodes[0].user
        self.node_count = len(self._nodes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for node in self._nodes:
            await node.close()

    async def find(self, *path: str, **query: str) -> Any:
        """GET; None where the broker says 404."""
        return await self._call("GET", path, params=query)

    async def put(self, *path: str, body: dict[str, Any]) -> None:
        """PUT: create it, unless it exists with the same properties."""
        await self._call("PUT", path, json=body)

    async def post(self, *path: str, body: dict[str, Any]) -> Any:
        """POST; the broker's answer, or None if it is empty."""
        return await self._call("POST", path, json=body)

    async def delete(self, *path: str) -> None:
        """DELETE; not an error if it does not exist."""
        await self._call("DELETE", path)

    async def _call(self, method: str, path: tuple[str, ...], **arguments: Any) -> Any:
        failures: list[ManagementUnavailable] = []
        not_there: _NotThere | None = None
        for node in tuple(self._nodes):
            try:
                return await node.call(method, path, **arguments)
            except _NotThere as error:
                not_there = error
            except ManagementUnavailable as error:
                failures.append(error)
                self._put_last(node)
                if method == "POST" and not isinstance(error.__cause__, NOT_SENT):
                    break  # it may have been done
        if not_there is not None:
            if method in ("GET", "DELETE"):
                return None
            raise not_there
        if len(failures) == 1:
            raise failures[0]
        raise ManagementUnavailable("; ".join(map(str, failures))) from failures[-1].__cause__

    def _put_last(self, node: "_Node") -> None:
        if self._nodes[0] is node:  # else another call has done so
            self._nodes = [*self._nodes[1:], node]


class _Node:
    """The management API of one node."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self.user = unquote(parts.username or "guest")
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._name = f"RabbitMQ's management API at {self._url}"
        self._check_url()
        self._http = httpx.AsyncClient(
            auth=(self.user, unquote(parts.password or "guest")),
            timeout=timeout_seconds,
            trust_env=False,  # no HTTP proxy, as for AMQP
            verify=tls or False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: tuple[str, ...], **arguments: Any) -> Any:
        """The answer; None if there is none. Raises `ManagementError`."""
        response = await self._answer(method, path, **arguments)
        is_nothing = method in ("PUT", "DELETE") or (method == "POST" and not response.content)
        return None if is_nothing else self._json(response)

    def _check_url(self) -> None:
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise self._unavailable(f"this is no URL ({error})") from None

    async def _answer(self, method: str, path: tuple[str, ...], **arguments: Any) -> httpx.Response:
        url = "/".join([self._url, "api", *(quote(segment, safe="") for segment in path)])
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
        refusal = f"{self._name} refused {action} ({response.status_code}): {_reason(response)}"
        if response.status_code == 404:
            raise _NotThere(refusal)
        if method != "GET" and not response.is_success:
            raise ManagementError(refusal)
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

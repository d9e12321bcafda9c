"""ASGI middleware of every service: a limit for bodies, and HEAD wherever GET works."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.problems import Problem

MAX_BODY_BYTES = 64 * 1024


class BodyLimit:
    """Answers 413 to a body over `MAX_BODY_BYTES`, as soon as its declared or its counted length is over it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length: bytes = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await body_too_large(MAX_BODY_BYTES).response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise body_too_large(MAX_BODY_BYTES)
        return message

    return counting


def body_too_large(limit_bytes: int) -> Problem:
    """The connection is closed, since the rest of the body is not read (RFC 9110, 15.5.14)."""
    return Problem(413, f"The body is over {limit_bytes} bytes", headers={"Connection": "close"})


class HeadAsGet:
    """Answers HEAD with the status and headers of GET (RFC 9110, 9.1); the body of a stream is not even begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _headers_only(send)
        await self._app(scope, receive, send)


def _headers_only(send: Send) -> Send:
    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return headers_only

"""Reads a request's body before NiceGUI sees the request.

NiceGUI would read a body of any size into memory, and log an error for a body that breaks off.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.middleware import body_too_large

MAX_BODY_BYTES = 1024 * 1024
"""Enough for a browser without WebSockets, which sends its messages as bodies."""


class WholeBody:
    """Answers 413 to a body over `MAX_BODY_BYTES`, and nothing to a client that hangs up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                await body_too_large(MAX_BODY_BYTES).response(scope["path"])(scope, receive, send)
                return
        await self._app(scope, _first(body, receive), send)


def _first(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay

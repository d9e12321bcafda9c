"""A request's body is whole before the page's framework sees anything of the request.

Its parts would take a body of any size into memory, and one that breaks off for an error of theirs.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.middleware import body_too_large

MAX_BODY_BYTES = 1024 * 1024
"""As much as a browser that can't use WebSockets may send at once."""


class WholeBody:
    """Reads the body; refuses one over `MAX_BODY_BYTES`, and leaves it at that where the client hangs up meanwhile."""

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

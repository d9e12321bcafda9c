"""HEAD wherever GET works (RFC 9110, 9.1): the same status and headers, no body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Asks the application for a GET, and ends the answer after its headers: a stream is not even begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _headers_only(send)
        await self._app(scope, receive, send)


def _headers_only(send: Send) -> Send:
    is_over = False

    async def headers_only(message: Message) -> None:
        nonlocal is_over
        if is_over:
            return
        await send(message)
        if message["type"] == "http.response.start":
            is_over = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return headers_only

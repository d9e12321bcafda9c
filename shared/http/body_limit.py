"""No request has a body over 64 KiB."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.problems import Problem

MAX_BODY_BYTES = 64 * 1024


class BodyLimit:
    """Refuses a body over `MAX_BODY_BYTES` with 413, whether its length is declared or only found out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length: bytes = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await _too_large().response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return counting


def _too_large() -> Problem:
    # The rest of the body is not read, so the connection is of no more use. (RFC 9110, 15.5.14)
    return Problem(413, f"The body is over {MAX_BODY_BYTES} bytes", headers={"Connection": "close"})

"""Which viewers may change something: those whose browser once opened the page with the operator token.

The link that `order-rail up` prints contains the token. The page removes it from the address at once and sets a cookie
that no script can read and no other site can send.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

COOKIE = "order-rail-operator"
KEPT_SECONDS = 30 * 24 * 3600
TOKEN = "token"  # noqa: S105 - a parameter's name


@dataclass(frozen=True)
class Viewer:
    """One open page, and whether it may change something."""

    may_act: bool

    def acting(self, act: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`act` for a viewer who may act. Others' buttons are disabled, but a browser can send any click."""

        async def if_allowed() -> None:
            if self.may_act:
                await act()
            else:
                ui.notify("This needs the operator token.", type="negative")

        return if_allowed


def viewer_of(request: Request, operator_token: str) -> Viewer:
    """The viewer, by the cookie."""
    given = request.cookies.get(_cookie(request), "")
    return Viewer(bool(operator_token) and hmac.compare_digest(given.encode(), _proof(operator_token).encode()))


def entered(request: Request, operator_token: str) -> RedirectResponse | None:
    """For an address with a token: a redirect to the address without it, with a cookie if the token is right."""
    if TOKEN not in request.query_params:
        return None
    url = request.url.remove_query_params(TOKEN)
    target = f"{url.path}?{url.query}" if url.query else url.path
    answer = RedirectResponse(target, 303, headers={"Referrer-Policy": "no-referrer"})
    if operator_token and hmac.compare_digest(request.query_params[TOKEN].encode(), operator_token.encode()):
        proof = _proof(operator_token)
        answer.set_cookie(_cookie(request), proof, max_age=KEPT_SECONDS, httponly=True, samesite="strict")
    else:
        answer.delete_cookie(_cookie(request))
    return answer


def _cookie(request: Request) -> str:
    """One per port: a cookie is valid for a host, and two systems may run on one host."""
    return f"{COOKIE}-{request.url.port or 80}"


def _proof(operator_token: str) -> str:
    """Proves that its bearer knew the token, without containing it."""
    return hmac.new(operator_token.encode(), b"order-rail control room", hashlib.sha256).hexdigest()

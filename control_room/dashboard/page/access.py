"""Who may change something: whoever came with the operator token once, in that browser.

The link that `order-rail up` prints carries it. The page takes it out of the address at once, and leaves a cookie that
no script can read and no other site can send.
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
    """Whoever looks at one page."""

    may_act: bool

    def acting(self, act: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`act`, for those who may. The page's buttons are out of reach for others, but a browser can say anything."""

        async def if_allowed() -> None:
            if self.may_act:
                await act()
            else:
                ui.notify("This needs the operator token.", type="negative")

        return if_allowed


def viewer_of(request: Request, operator_token: str) -> Viewer:
    """Who looks, by the cookie."""
    given = request.cookies.get(_cookie(request), "")
    return Viewer(bool(operator_token) and hmac.compare_digest(given.encode(), _proof(operator_token).encode()))


def entered(request: Request, operator_token: str) -> RedirectResponse | None:
    """The answer to a link that carries a token: the same page without it, with a cookie if the token is right."""
    if TOKEN not in request.query_params:
        return None
    rest = request.url.remove_query_params(TOKEN)
    target = f"{rest.path}?{rest.query}" if rest.query else rest.path
    answer = RedirectResponse(target, 303, headers={"Referrer-Policy": "no-referrer"})
    if operator_token and hmac.compare_digest(request.query_params[TOKEN].encode(), operator_token.encode()):
        proof = _proof(operator_token)
        answer.set_cookie(_cookie(request), proof, max_age=KEPT_SECONDS, httponly=True, samesite="strict")
    else:
        answer.delete_cookie(_cookie(request))
    return answer


def _cookie(request: Request) -> str:
    """One for each port: cookies know hosts only, and two systems may run on one."""
    return f"{COOKIE}-{request.url.port or 80}"


def _proof(operator_token: str) -> str:
    """Shows that its bearer knew the token, and does not show the token."""
    return hmac.new(operator_token.encode(), b"order-rail control room", hashlib.sha256).hexdigest()

"""Which viewers may change something: those whose browser once opened the page with the operator token.

The link that `order-rail up` prints contains the token. The page removes it from the address at once and sets a cookie
that no script can read and no other site can send. A wrong token changes nothing: the page says that it is wrong.
"""

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import RedirectResponse

COOKIE = "order-rail-operator"
KEPT_SECONDS = 30 * 24 * 3600
TOKEN = "token"  # noqa: S105 - a parameter's name
REFUSED = "refused"
"""The parameter of the page that says that a token was wrong."""


def may_act(request: Request, operator_token: str) -> bool:
    """Whether this viewer may change something, by the cookie."""
    given = request.cookies.get(_cookie(request), "")
    return bool(operator_token) and hmac.compare_digest(given.encode(), _proof(operator_token).encode())


def entered(request: Request, operator_token: str) -> RedirectResponse | None:
    """For an address with a token: a redirect to the address without it, with a cookie if the token is right."""
    if TOKEN not in request.query_params:
        return None
    given = request.query_params[TOKEN].strip()
    is_right = bool(operator_token) and hmac.compare_digest(given.encode(), operator_token.encode())
    url = request.url.remove_query_params([TOKEN, REFUSED])
    url = url if is_right else url.include_query_params(**{REFUSED: ""})
    target = f"{url.path}?{url.query}" if url.query else url.path
    answer = RedirectResponse(target, 303, headers={"Referrer-Policy": "no-referrer"})
    if is_right:
        proof = _proof(operator_token)
        answer.set_cookie(_cookie(request), proof, max_age=KEPT_SECONDS, httponly=True, samesite="strict")
    return answer


def _cookie(request: Request) -> str:
    """One per port: a cookie is valid for a host, and two systems may run on one host."""
    return f"{COOKIE}-{request.url.port or 80}"


def _proof(operator_token: str) -> str:
    """Proves that its bearer knew the token, without containing it."""
    return hmac.new(operator_token.encode(), b"order-rail control room", hashlib.sha256).hexdigest()

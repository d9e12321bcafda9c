"""Which viewers may change something: those whose browser once opened the page with the operator token."""

from http.cookies import SimpleCookie
from typing import cast

import pytest
from nicegui import Client, ui
from starlette.requests import Request
from starlette.responses import RedirectResponse

from control_room.dashboard.page.access import entered, may_act
from control_room.dashboard.page.parts import Page
from control_room.dashboard.page.room import Room

TOKEN = "a long and secret token"
LINK = "token=a+long+and+secret+token"


def request(query: str = "", cookie: str = "", port: int = 8080) -> Request:
    headers = [(b"host", f"localhost:{port}".encode()), (b"cookie", cookie.encode())]
    scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/", "query_string": query.encode()}
    return Request({**scope, "server": ("localhost", port), "headers": headers})


def answer_to(query: str, token: str = TOKEN) -> RedirectResponse:
    answer = entered(request(query), token)
    assert answer is not None
    return answer


def cookie_after(query: str) -> str:
    """The cookie that the browser sends after it has opened this address."""
    cookies = SimpleCookie(answer_to(query).headers.get("set-cookie", ""))
    return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())


@pytest.mark.parametrize(
    ("query", "port", "token", "is_allowed"),
    [
        (LINK, 8080, TOKEN, True),
        ("token=wrong", 8080, TOKEN, False),
        (LINK, 8081, TOKEN, False),  # another system on this host
        (LINK, 8080, "another token", False),
    ],
)
def test_a_browser_may_act_after_a_link_with_the_token_of_this_system(
    query: str, port: int, token: str, is_allowed: bool
) -> None:
    assert may_act(request(cookie=cookie_after(query), port=port), token) is is_allowed


def test_the_token_leaves_the_address_and_is_not_in_the_cookie() -> None:
    answer = answer_to(f"{LINK}&order=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?order=1")
    assert TOKEN not in answer.headers["set-cookie"]
    assert all(word in answer.headers["set-cookie"] for word in ("HttpOnly", "SameSite=strict"))


def test_a_wrong_token_is_said_to_be_wrong_and_leaves_a_good_cookie_alone() -> None:
    answer = answer_to("token=wrong&order=1")
    assert answer.headers["location"] == "/?order=1&refused="
    assert "set-cookie" not in answer.headers
    assert answer_to(f"{LINK}&refused=").headers["location"] == "/"


def test_without_the_token_one_may_look() -> None:
    assert entered(request(), TOKEN) is None
    assert not may_act(request(), TOKEN)


def test_where_no_token_is_set_nobody_may_act() -> None:
    answer_to("token=", token="")
    assert not may_act(request(cookie="order-rail-operator-8080="), "")


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_click_that_a_browser_forges_on_a_disabled_button_does_nothing(is_allowed: bool) -> None:
    clicks: list[str] = []
    with Client(ui.page("")) as client:
        Page(cast(Room, None), is_allowed, {}).button("Kill", lambda: clicks.append("Kill"))
    (button,) = (element for element in client.elements.values() if isinstance(element, ui.button))
    (listener,) = button._event_listeners
    client.handle_event({"id": button.id, "listener_id": listener, "args": []})
    assert clicks == ["Kill"] * is_allowed

"""Who may change something in the control room: whoever came with the operator's token, in that browser."""

from http.cookies import SimpleCookie

from starlette.requests import Request

from control_room.dashboard.page.access import entered, viewer_of

TOKEN = "a long and secret token"


def request(query: str = "", cookie: str = "", port: int = 8080) -> Request:
    headers = [(b"host", f"localhost:{port}".encode()), (b"cookie", cookie.encode())]
    scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/", "query_string": query.encode()}
    return Request({**scope, "server": ("localhost", port), "headers": headers})


def cookie_after(query: str) -> str:
    """What the browser sends after it was answered."""
    answer = entered(request(query), TOKEN)
    assert answer is not None
    cookies = SimpleCookie(answer.headers.get("set-cookie", ""))
    return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())


def test_a_link_with_the_token_lets_its_browser_act() -> None:
    cookie = cookie_after("token=a+long+and+secret+token")
    assert viewer_of(request(cookie=cookie), TOKEN).may_act


def test_the_token_leaves_the_address_and_is_not_in_the_cookie() -> None:
    answer = entered(request("token=a+long+and+secret+token&order=1"), TOKEN)
    assert answer is not None
    assert (answer.status_code, answer.headers["location"]) == (303, "/?order=1")
    assert TOKEN not in answer.headers["set-cookie"]
    assert all(word in answer.headers["set-cookie"] for word in ("HttpOnly", "SameSite=strict"))


def test_without_the_token_one_may_look() -> None:
    assert entered(request(), TOKEN) is None
    assert not viewer_of(request(), TOKEN).may_act


def test_a_wrong_token_lets_nobody_act() -> None:
    assert not viewer_of(request(cookie=cookie_after("token=wrong")), TOKEN).may_act


def test_a_cookie_of_another_system_on_this_host_counts_for_nothing() -> None:
    cookie = cookie_after("token=a+long+and+secret+token")
    assert not viewer_of(request(cookie=cookie, port=8081), TOKEN).may_act
    assert not viewer_of(request(cookie=cookie), "another token").may_act


def test_where_no_token_is_set_nobody_may_act() -> None:
    answer = entered(request("token="), "")
    assert answer is not None
    assert not viewer_of(request(cookie="order-rail-operator-8080="), "").may_act

"""HTTP as its standards have it, in every service: HEAD, slashes, hosts, encodings, ids, and clients that hang up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.ids import new_id
from tests.raw_http import BODY, END, HOST, LENGTH, POST, ask, connected, send_and_leave
from tests.service.process import OPERATOR, RunningService, problem, running_alone

Services = dict[str, RunningService]

ORDER = json.loads(BODY)
ORDER_PATHS = ("/", "/shop/shop.css", "/menu", "/orders", "/orders?limit=0", "/orders/{order_id}",
               "/orders/{order_id}/events", "/orders/{unknown}", "/orders/{unknown}/events")  # fmt: skip
OWN_PATHS = {
    "order_service": ORDER_PATHS,
    "payment_service": ("/payments/{order_id}", "/"),
    "notification_service": ("/notifications?order_id={order_id}", "/notifications"),
}
UNKNOWN_PATHS = ("/menu/", "/orders/", "/shop", "//menu", "/orders/x/", "/docs/", "/swagger", "/swagger/", "/livez/",
                 "/audit/", "//evil.example/", "/orders%2F")  # fmt: skip
EVERYWHERE = ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/swagger/swagger-ui.css", "/audit",
              "/deliveries?order_id={order_id}", "/deliveries?order_id=5", "/milestones", "/nowhere")  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def services(directory: Path) -> AsyncIterator[Services]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(running_alone(name, directory)) for name in OWN_PATHS}


@pytest.fixture
def orders(services: Services) -> RunningService:
    return services["order_service"]


@pytest_asyncio.fixture(scope="module")
async def order_id(services: Services) -> str:
    answer = await services["order_service"].http.post("/orders", json=ORDER)
    return str(answer.raise_for_status().json()["order_id"])


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name in OWN_PATHS for path in EVERYWHERE + OWN_PATHS[name]]
)
async def test_head_is_answered_like_get_without_a_body(
    services: Services, order_id: str, name: str, path: str
) -> None:
    path, http = path.format(order_id=order_id, unknown=new_id()), services[name].http
    async with http.stream("GET", path, headers=OPERATOR) as got, asyncio.timeout(10):
        head = await http.head(path, headers=OPERATOR)

    assert (head.status_code, head.content) == (got.status_code, b"")
    for answer in (head, got):
        for changing in ("date", "transfer-encoding", *(["content-length"] if path == "/metrics" else [])):
            answer.headers.pop(changing, None)
    assert head.headers == got.headers


async def test_every_call_that_is_described_is_among_those_that_head_was_tried_on(services: Services) -> None:
    for name, service in services.items():
        described = (await service.http.get("/openapi.json")).json()["paths"]
        tried = {path.partition("?")[0] for path in EVERYWHERE + OWN_PATHS[name]}
        assert {path for path, methods in described.items() if "get" in methods} <= tried


async def test_what_follows_a_head_on_its_connection_is_answered(orders: RunningService, order_id: str) -> None:
    async with connected(orders.port) as line:
        for path in ("/menu", f"/orders/{order_id}/events", "/"):
            await line.send(b"HEAD " + path.encode() + END)
            assert (await line.answer("HEAD")).status == 200
        await line.send(b"GET /livez" + END)
        assert json.loads((await line.answer()).body)["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "path"),
    [*((name, "/audit") for name in OWN_PATHS), ("order_service", "/orders/{order_id}"), ("order_service", "/"),
     ("order_service", "/nowhere"), ("payment_service", "/docs")],
)  # fmt: skip
async def test_a_client_of_http_1_0_gets_the_same_without_chunks(
    services: Services, order_id: str, name: str, path: str
) -> None:
    async def answer(method: str, version: str) -> Any:
        head = f"{method} {path.format(order_id=order_id)} HTTP/{version}\r\nHost: here\r\n"
        request = f"{head}Authorization: {OPERATOR['Authorization']}\r\n\r\n"
        return await ask(services[name].port, request.encode(), method)

    new, old, head = await answer("GET", "1.1"), await answer("GET", "1.0"), await answer("HEAD", "1.0")

    assert (old.status, old.body) == (new.status, new.body)
    assert (head.status, head.body) == (new.status, b"")
    assert "transfer-encoding" not in old.headers
    assert old.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("OPTIONS", "/orders", "GET, HEAD, POST"), ("DELETE", "/orders/1", "GET, HEAD"), ("POST", "/", "GET, HEAD"),
     ("GET", "/orders/1/cancel", "POST"),
     ("OPTIONS", "/docs", "GET, HEAD"), ("TRACE", "/livez", "GET, HEAD"), ("PUT", "/swagger/x", "GET, HEAD")],
)  # fmt: skip
async def test_the_answer_to_a_wrong_method_names_head_too(
    orders: RunningService, method: str, path: str, allow: str
) -> None:
    answer = await orders.http.request(method, path)

    problem(answer, 405)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        *(("order_service", path) for path in UNKNOWN_PATHS), ("payment_service", "/payments"),
        ("payment_service", "/payments/x/"), ("notification_service", "/notifications/"),
    ],
)  # fmt: skip
async def test_another_path_is_not_found_and_leads_nowhere(
    services: Services, name: str, path: str, method: str
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"
    answer = await ask(services[name].port, request.encode(), method)

    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("name", "path", "content_type"),
    [
        *((name, "/audit", "application/x-ndjson") for name in OWN_PATHS),
        ("order_service", "/orders", "application/json"),
    ],
)
async def test_an_operators_call_needs_the_token(services: Services, name: str, path: str, content_type: str) -> None:
    http = services[name].http
    answer = await http.get(path, headers=OPERATOR)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    for refused in ({}, *({"Authorization": each} for each in ("", "Bearer", "Bearer wrong", "Basic b3BlcmF0b3I="))):
        answer = await http.get(path, headers=refused)
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("name", OWN_PATHS)
async def test_no_page_has_links_that_the_clients_host_header_made(services: Services, name: str) -> None:
    http = services[name].http
    for path in ("/docs", "/openapi.json", "/"):
        answer = await http.get(path, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.text
        assert "http://127.0.0.1" not in answer.text
    page = await http.get("/docs")
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
        assert f'"/swagger/{file}"' in page.text
        assert (await http.get(f"/swagger/{file}")).status_code == 200
    problem(await http.get("/swagger/__init__.py"), 404)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Content-Encoding", "gzip"), ("Content-Encoding", "br"), ("Content-Encoding", "GZIP"),
     ("Content-Encoding", "gzip, identity"), ("Content-Type", "application/json; charset=utf-16"),
     ("Content-Type", 'application/json;charset="ISO-8859-1"'), ("Content-Type", ""),
     *(("Content-Type", each) for each in ("application/xml", "application/merge-patch+json", "application/jsonp",
                                           "text/plain", "application/x-www-form-urlencoded"))],
)  # fmt: skip
async def test_the_answer_to_a_body_in_another_encoding_says_which_is_read(
    orders: RunningService, name: str, value: str
) -> None:
    answer = await orders.http.post("/orders", content=BODY, headers={name: value})

    assert problem(answer, 415)["detail"].startswith(f"{name}: expected")
    expected = {"Content-Encoding": ("accept-encoding", "identity"), "Content-Type": ("accept", "application/json")}
    header, readable = expected[name]
    assert answer.headers[header] == readable


@pytest.mark.parametrize(
    ("name", "values"),
    [("Content-Type", ("text/plain", "application/json")), ("Content-Encoding", ("gzip", "identity"))],
)
async def test_of_a_header_that_is_sent_twice_the_first_counts(
    orders: RunningService, name: str, values: tuple[str, str]
) -> None:
    first, second = [(name, value) for value in values]

    problem(await orders.http.post("/orders", content=BODY, headers=[first, second]), 415)
    assert (await orders.http.post("/orders", content=BODY, headers=[second, first])).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "application/json; charset=utf-8"}, {"Content-Type": 'Application/JSON ; Charset="UTF-8"'},
     {"Content-Type": "application/json;charset=us-ascii"}, {"Content-Type": "application/json; v=1"},
     {"Content-Encoding": "identity"}, {"Content-Encoding": "Identity"}],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
async def test_utf_8_is_read_however_it_is_called(orders: RunningService, headers: dict[str, str], mark: bytes) -> None:
    answer = await orders.http.post("/orders", content=mark + BODY, headers=headers)

    assert answer.status_code == 202, answer.text


def with_unknown(json_text: str) -> bytes:
    return BODY[:-1] + b', "unknown": ' + json_text.encode() + b"}"


BROKEN_JSON = {
    "nothing": b"",
    "half of it": b"{",
    "invalid UTF-8": BODY.replace(b"ada", b"\xff\xfe"),
    "an overlong slash": BODY.replace(b"ada", b"\xc0\xaf"),
    "a surrogate in UTF-8": BODY.replace(b"ada", b"\xed\xa0\x80"),
    "a lone surrogate": with_unknown(r'"\ud800"'),
    "a lone low surrogate": with_unknown(r'"\udc00"'),
    "two byte order marks": b"\xef\xbb\xbf" * 2 + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "gzip unannounced": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "NaN": with_unknown("NaN"),
    "infinity": with_unknown("[-Infinity]"),
    "a name twice": BODY.replace(b'"items"', b'"customer_email": "eve@example.com", "items"'),
    "a name twice, once in escapes": BODY.replace(b'"sku"', b'"\\u0073ku": "margherita", "sku"'),
    "a name twice, deep inside": with_unknown('[{"a": {"b": 1, "b": 2}}]'),
    "deep nesting": with_unknown("[" * 30_000 + "]" * 30_000),
    "deep objects": with_unknown('{"a":' * 10_000 + "1" + "}" * 10_000),
    "a number of 6,000 digits": with_unknown("1" * 6_000),
    "a NUL": BODY + b"\0",
    "a control character": BODY.replace(b"ada", b"a\x01a"),
    "a comment": b"/* */" + BODY,
    "two documents": BODY * 2,
}


@pytest.mark.parametrize("content", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
async def test_what_json_readers_differ_on_is_refused(orders: RunningService, content: bytes) -> None:
    assert problem(await orders.http.post("/orders", content=content), 400)["errors"][0]["field"] == "body"


@pytest.mark.parametrize("unknown", ['"a: b"', '{"a": 1, "b": {"a": 1}}', "1e400", '"\\ud83c\\udf55"'])
async def test_unknown_names_are_left_alone(orders: RunningService, unknown: str) -> None:
    assert (await orders.http.post("/orders", content=with_unknown(unknown))).status_code == 202


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"not JSON \xff\0", b"[" * 30_000, BODY])
async def test_a_body_that_a_call_does_not_read_changes_nothing(orders: RunningService, content: bytes) -> None:
    placed = await orders.http.post("/orders", content=BODY)
    answer = await orders.http.post(f"{placed.headers['location']}/cancel", content=content)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")


async def test_an_id_in_upper_case_is_the_same_id(services: Services, order_id: str) -> None:
    calls = [("order_service", "/orders/{}", 200), ("order_service", "/orders?after={}", 200),
             ("notification_service", "/notifications?order_id={}", 200), ("payment_service", "/payments/{}", 404),
             *((name, "/deliveries?order_id={}", 200) for name in services)]  # fmt: skip
    for name, path, status in calls:
        lower, upper = [
            await services[name].http.get(path.format(given), headers=OPERATOR)
            for given in (order_id, order_id.upper())
        ]
        assert (lower.status_code, upper.status_code) == (status, status)
        assert status == 404 or lower.json() == upper.json()


HANG_UPS = {
    "in the head": b"POST /orders HTTP/1.1\r\nHost: he",
    "before the body": POST + b"Content-Length: 500\r\n\r\n",
    "in the body": POST + b"Content-Length: 500\r\n\r\n{",
    "in a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n500\r\n{",
    "after the body": POST + LENGTH + BODY,
    "waiting for 100": POST + b"Expect: 100-continue\r\nContent-Length: 500\r\n\r\n",
    "after a cancellation": b"POST /orders/ORDER_ID/cancel HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    "in the body of another call": b"GET /menu HTTP/1.1\r\n" + HOST + b"Content-Length: 500\r\n\r\n{",
    "in the answer": (b"GET /swagger/swagger-ui-bundle.js" + END) * 50,
    "in the audit": (b"GET /audit HTTP/1.1\r\nAuthorization: Bearer the-operators-token\r\n" + HOST + b"\r\n") * 50,
    "in a stream": b"GET /orders/ORDER_ID/events" + END,
}


@pytest.mark.parametrize("sent", HANG_UPS.values(), ids=HANG_UPS.keys())
@pytest.mark.parametrize("way", ["hang_up", "reset"])
async def test_a_client_that_hangs_up_is_no_error_of_ours(
    orders: RunningService, order_id: str, sent: bytes, way: str
) -> None:
    before = len(orders.log.read_bytes())
    sent = sent.replace(b"ORDER_ID", order_id.encode())
    await send_and_leave(orders.port, orders.process.pid, sent, way)

    assert (await orders.http.get("/livez")).status_code == 200
    assert b"rror" not in orders.log.read_bytes()[before:]
    assert b"Traceback" not in orders.log.read_bytes()[before:]

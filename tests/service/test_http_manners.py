"""HTTP as its standards have it, in every service: HEAD, slashes, hosts, encodings, ids, and clients that hang up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from shared.ids import new_id
from shared.settings import BrokerSettings
from tests.raw_http import ask, connected
from tests.service.process import OPERATOR, RunningService, running
from tests.support import eventually

Services = dict[str, RunningService]

NAMES = ("order_service", "payment_service", "notification_service")
BODY: dict[str, Any] = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
CONTENT = json.dumps(BODY).encode()
POST = b"POST /orders HTTP/1.1\r\nHost: here\r\n"

EVERYWHERE = ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/swagger/swagger-ui.css", "/audit",
              "/deliveries?order_id={order_id}", "/deliveries?order_id=5", "/nowhere")  # fmt: skip
OWN = {
    "order_service": ("/", "/shop/shop.css", "/menu", "/orders", "/orders?limit=0", "/orders/{order_id}",
                      "/orders/{order_id}/events", "/orders/{unknown}", "/orders/{unknown}/events"),
    "payment_service": ("/payments/{order_id}", "/"),
    "notification_service": ("/notifications?order_id={order_id}", "/notifications"),
}  # fmt: skip
PAGES = [(name, path) for name in NAMES for path in (*EVERYWHERE, *OWN[name])]


@pytest_asyncio.fixture(scope="module")
async def services(directory: Path) -> AsyncIterator[Services]:
    """All three, without a broker: none of this needs one."""
    nobody = BrokerSettings(rabbitmq_url=f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(running(name, nobody, directory, until="/livez")) for name in NAMES
        }


@pytest.fixture
def orders(services: Services) -> RunningService:
    return services["order_service"]


@pytest_asyncio.fixture(scope="module")
async def order_id(services: Services) -> str:
    answer = await services["order_service"].http.post("/orders", json=BODY)
    placed: str = answer.raise_for_status().json()["order_id"]
    return placed


def port_of(service: RunningService) -> int:
    port = service.http.base_url.port
    assert port is not None
    return port


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize(("name", "path"), PAGES)
async def test_head_is_answered_like_get_without_a_body(
    services: Services, order_id: str, name: str, path: str
) -> None:
    path, http = path.format(order_id=order_id, unknown=new_id()), services[name].http
    async with http.stream("GET", path, headers=OPERATOR) as got, asyncio.timeout(10):
        head = await http.head(path, headers=OPERATOR)

    assert head.status_code == got.status_code
    assert head.content == b""
    moving = {"date", "transfer-encoding"} | ({"content-length"} if path == "/metrics" else set())
    kept = [{key: value for key, value in each.headers.items() if key not in moving} for each in (got, head)]
    assert kept[0] == kept[1]


async def test_every_call_that_is_described_is_among_those_that_head_was_tried_on(services: Services) -> None:
    for name, service in services.items():
        described = (await service.http.get("/openapi.json")).json()["paths"]
        tried = {path.partition("?")[0] for path in (*EVERYWHERE, *OWN[name])}
        assert {path for path, methods in described.items() if "get" in methods} <= tried


async def test_what_follows_a_head_on_its_connection_is_answered(orders: RunningService, order_id: str) -> None:
    async with connected(port_of(orders)) as line:
        for path in ("/menu", f"/orders/{order_id}/events", "/"):
            await line.send(f"HEAD {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            assert (await line.answer("HEAD")).status == 200
        await line.send(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        assert json.loads((await line.answer()).body)["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "path"),
    [*((name, "/audit") for name in NAMES), ("order_service", "/orders/{order_id}"), ("order_service", "/"),
     ("order_service", "/nowhere"), ("payment_service", "/docs")],
)  # fmt: skip
async def test_a_client_of_http_1_0_gets_the_same_without_chunks(
    services: Services, order_id: str, name: str, path: str
) -> None:
    path, port = path.format(order_id=order_id), port_of(services[name])
    rest = f"{path} HTTP/1.%d\r\nHost: here\r\nAuthorization: {OPERATOR['Authorization']}\r\n\r\n"
    new, old = await ask(port, ("GET " + rest % 1).encode()), await ask(port, ("GET " + rest % 0).encode())
    head = await ask(port, ("HEAD " + rest % 0).encode(), "HEAD")

    assert (old.status, old.body) == (new.status, new.body)
    assert (head.status, head.body) == (new.status, b"")
    assert "transfer-encoding" not in old.headers
    assert old.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("OPTIONS", "/orders", "GET, HEAD, POST"), ("DELETE", "/orders/1", "GET, HEAD"), ("POST", "/", "GET, HEAD"),
     ("OPTIONS", "/docs", "GET, HEAD"), ("TRACE", "/livez", "GET, HEAD"), ("PUT", "/swagger/x", "GET, HEAD")],
)  # fmt: skip
async def test_a_wrong_method_is_told_that_head_works_too(
    orders: RunningService, method: str, path: str, allow: str
) -> None:
    answer = await orders.http.request(method, path)

    problem(answer, 405)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    ("name", "path"),
    [("order_service", "/menu/"), ("order_service", "/orders/"), ("order_service", "/shop"),
     ("order_service", "//menu"),
     ("order_service", "/orders/x/"), ("order_service", "/docs/"), ("order_service", "/swagger"),
     ("order_service", "/swagger/"), ("order_service", "/livez/"), ("order_service", "/audit/"),
     ("payment_service", "/payments"), ("payment_service", "/payments/x/"), ("notification_service", "/notifications/"),
     ("order_service", "//evil.example/"), ("order_service", "/orders%2F")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_another_path_is_not_found_and_leads_nowhere(
    services: Services, name: str, path: str, method: str
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"
    answer = await ask(port_of(services[name]), request.encode(), method)

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "location" not in answer.headers


@pytest.mark.parametrize("name", NAMES)
async def test_no_page_has_links_that_the_clients_host_header_made(services: Services, name: str) -> None:
    for path in ("/docs", "/openapi.json", "/"):
        answer = await services[name].http.get(path, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.text
        assert "http://127.0.0.1" not in answer.text
    page = await services[name].http.get("/docs")
    for file in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
        assert f'"/swagger/{file}"' in page.text
        assert (await services[name].http.get(f"/swagger/{file}")).status_code == 200
    problem(await services[name].http.get("/swagger/__init__.py"), 404)


UNREAD = {
    "gzip": ({"Content-Encoding": "gzip"}, "accept-encoding", "identity"),
    "br": ({"Content-Encoding": "br"}, "accept-encoding", "identity"),
    "gzip in capitals": ({"Content-Encoding": "GZIP"}, "accept-encoding", "identity"),
    "two codings": ({"Content-Encoding": "gzip, identity"}, "accept-encoding", "identity"),
    "utf-16": ({"Content-Type": "application/json; charset=utf-16"}, "accept", "application/json"),
    "latin-1": ({"Content-Type": 'application/json;charset="ISO-8859-1"'}, "accept", "application/json"),
    "another type": ({"Content-Type": "application/xml"}, "accept", "application/json"),
    "a type beside JSON": ({"Content-Type": "application/merge-patch+json"}, "accept", "application/json"),
    "an empty type": ({"Content-Type": ""}, "accept", "application/json"),
}


@pytest.mark.parametrize(("headers", "header", "taken"), UNREAD.values(), ids=UNREAD.keys())
async def test_a_body_in_an_encoding_that_is_not_read_is_told_which_is(
    orders: RunningService, headers: dict[str, str], header: str, taken: str
) -> None:
    answer = await orders.http.post("/orders", content=CONTENT, headers=headers)

    assert problem(answer, 415)["detail"].startswith("Content-")
    assert answer.headers[header] == taken


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "application/json; charset=utf-8"}, {"Content-Type": 'Application/JSON ; Charset="UTF-8"'},
     {"Content-Type": "application/json;charset=us-ascii"}, {"Content-Type": "application/json; v=1"},
     {"Content-Encoding": "identity"}, {"Content-Encoding": "Identity"}],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
async def test_utf_8_is_read_however_it_is_called(orders: RunningService, headers: dict[str, str], mark: bytes) -> None:
    answer = await orders.http.post("/orders", content=mark + CONTENT, headers=headers)

    assert answer.status_code == 202, answer.text


def with_unknown(json_text: str) -> bytes:
    return CONTENT[:-1] + b', "unknown": ' + json_text.encode() + b"}"


BROKEN_JSON = {
    "invalid UTF-8": CONTENT.replace(b"ada", b"\xff\xfe"),
    "an overlong slash": CONTENT.replace(b"ada", b"\xc0\xaf"),
    "a surrogate in UTF-8": CONTENT.replace(b"ada", b"\xed\xa0\x80"),
    "a lone surrogate": with_unknown(r'"\ud800"'),
    "a lone low surrogate": with_unknown(r'"\udc00"'),
    "two byte order marks": b"\xef\xbb\xbf" * 2 + CONTENT,
    "UTF-16": json.dumps(BODY).encode("utf-16"),
    "gzip unannounced": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "NaN": with_unknown("NaN"),
    "infinity": with_unknown("[-Infinity]"),
    "a name twice": CONTENT.replace(b'"items"', b'"customer_email": "eve@example.com", "items"'),
    "a name twice, once in escapes": CONTENT.replace(b'"sku"', b'"\\u0073ku": "margherita", "sku"'),
    "a name twice, deep inside": with_unknown('[{"a": {"b": 1, "b": 2}}]'),
    "deep nesting": with_unknown("[" * 30_000 + "]" * 30_000),
    "deep objects": with_unknown('{"a":' * 10_000 + "1" + "}" * 10_000),
    "a number of 6,000 digits": with_unknown("1" * 6_000),
    "a NUL": CONTENT + b"\0",
    "a control character": CONTENT.replace(b"ada", b"a\x01a"),
    "a comment": b"/* */" + CONTENT,
    "two documents": CONTENT * 2,
}


@pytest.mark.parametrize("content", BROKEN_JSON.values(), ids=BROKEN_JSON.keys())
async def test_what_json_readers_differ_on_is_refused(orders: RunningService, content: bytes) -> None:
    told = problem(await orders.http.post("/orders", content=content), 400)

    assert told["errors"][0]["field"] == "body"


@pytest.mark.parametrize("unknown", ['"a: b"', '{"a": 1, "b": {"a": 1}}', "1e400", '"\\ud83c\\udf55"'])
async def test_unknown_names_are_left_alone(orders: RunningService, unknown: str) -> None:
    assert (await orders.http.post("/orders", content=with_unknown(unknown))).status_code == 202


async def test_an_id_in_upper_case_is_the_same_id(services: Services, order_id: str) -> None:
    http, capitals = services["order_service"].http, order_id.upper()
    assert (await http.get(f"/orders/{capitals}")).json() == (await http.get(f"/orders/{order_id}")).json()
    before = (await http.get("/orders", params={"after": order_id})).json()
    assert (await http.get("/orders", params={"after": capitals})).json() == before
    for service in services.values():
        notes = (await service.http.get("/deliveries", params={"order_id": capitals}, headers=OPERATOR)).json()
        assert notes == (await service.http.get(f"/deliveries?order_id={order_id}", headers=OPERATOR)).json()
    told = await services["notification_service"].http.get("/notifications", params={"order_id": capitals})
    assert (told.status_code, told.json()) == (200, [])
    problem(await services["payment_service"].http.get(f"/payments/{capitals}"), 404)


async def test_a_key_may_have_parameters(orders: RunningService) -> None:
    key = new_id()
    sent = [f'"{key}"', f'"{key}";v=1', f'"{key}"; source="shop"', f"{key};v=?1"]
    answers = [await orders.http.post("/orders", json=BODY, headers={"Idempotency-Key": each}) for each in sent]

    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    told = problem(await orders.http.post("/orders", json=BODY, headers={"Idempotency-Key": f'"{key}";V=1'}), 400)
    assert told["errors"][0]["field"] == "Idempotency-Key"


HANG_UPS = {
    "in the head": b"POST /orders HTTP/1.1\r\nHost: he",
    "before the body": POST + b"Content-Length: 500\r\n\r\n",
    "in the body": POST + b"Content-Length: 500\r\n\r\n{",
    "in a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n500\r\n{",
    "after the body": POST + b"Content-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT,
    "waiting for 100": POST + b"Expect: 100-continue\r\nContent-Length: 500\r\n\r\n",
    "in the body of another call": b"GET /menu HTTP/1.1\r\nHost: here\r\nContent-Length: 500\r\n\r\n{",
    "in the answer": b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n" * 50,
    "in the audit": b"GET /audit HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer the-operators-token\r\n\r\n" * 50,
}


@pytest.mark.parametrize("sent", HANG_UPS.values(), ids=HANG_UPS.keys())
@pytest.mark.parametrize("way", ["hang_up", "reset"])
async def test_a_client_that_hangs_up_is_no_error_of_ours(orders: RunningService, sent: bytes, way: str) -> None:
    before = len(orders.log.read_bytes())
    open_before = await connections(orders)
    async with connected(port_of(orders)) as line:
        await line.send(sent)
        await eventually(lambda: more_connections(orders, open_before), expecting="the connection to be there")
        getattr(line, way)()

        await eventually(lambda: as_many(orders, open_before), expecting="the connection to be gone")
    assert (await orders.http.get("/livez")).status_code == 200
    assert b"rror" not in orders.log.read_bytes()[before:]
    assert b"Traceback" not in orders.log.read_bytes()[before:]


async def test_a_client_that_leaves_a_stream_is_no_error_of_ours(orders: RunningService, order_id: str) -> None:
    before = len(orders.log.read_bytes())
    open_before = await connections(orders)
    for way in ("hang_up", "reset"):
        async with connected(port_of(orders)) as line:
            await line.send(f"GET /orders/{order_id}/events HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            await eventually(lambda: more_connections(orders, open_before), expecting="the connection to be there")
            getattr(line, way)()
            await eventually(lambda: as_many(orders, open_before), expecting="the connection to be gone")
    assert b"rror" not in orders.log.read_bytes()[before:]


async def connections(service: RunningService) -> int:
    """How many sockets the process has open to clients, our own among them."""

    port = port_of(service)
    found = psutil.Process(service.process.pid).net_connections("tcp")
    return sum(each.laddr.port == port and each.status != psutil.CONN_LISTEN for each in found)


async def more_connections(service: RunningService, before: int) -> bool:
    return await connections(service) > before


async def as_many(service: RunningService, before: int) -> bool:
    return await connections(service) <= before

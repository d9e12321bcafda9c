"""A password in a URL is shown nowhere: not where it is refused, not while it is used, not by what it cannot open."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from control_room.launcher.ports import free_ports
from shared.settings import BrokerSettings, load
from tests import examples
from tests.conftest import Broker
from tests.order_rail import order_rail
from tests.postgres import PrivatePostgres
from tests.service.mail import MailServer
from tests.service.process import OPERATOR, RunningService, running
from tests.service.test_following_orders import BODY
from tests.service.wire import Wire
from tests.support import eventually
from tests.unit.test_settings import SETTINGS

EMAIL_QUEUE = "notification_service.email"
MARKER = "Zq7MarkerX9"
SHOWN_AS = (MARKER, base64.b64encode(MARKER.encode()).decode().rstrip("="), MARKER[:8])
PATHS = ("/readyz", "/livez", "/metrics", "/openapi.json", "/deliveries", "/audit", "/orders/x", "/payments/x",
         "/notifications?order_id=x")  # fmt: skip
MALFORMED = [
    "{scheme}://ada:half@{marker}@127.0.0.1:1/x",
    "{scheme}://ada:12/{marker}@127.0.0.1:1/x",
    "{scheme}://ada:12#{marker}@127.0.0.1:1/x",
    "{scheme}://ada:12?{marker}@127.0.0.1:1/x",
    "{scheme}://ada:{marker}@127.0.0.1:port/x",
    "{scheme}://ada:{marker} @127.0.0.1:1/x",
    "{scheme}://ada:{marker}@[::1/x",
    "wrong://ada:{marker}@127.0.0.1:1/x",
    "ada:{marker}@127.0.0.1",
]
SCHEMES = [
    ("order_service", "RABBITMQ_URL", "amqp"),
    ("order_service", "RABBITMQ_MANAGEMENT_URL", "http"),
    ("order_service", "DATABASE_URL", "postgresql"),
    ("payment_service", "DATABASE_URL", "postgresql"),
    ("payment_service", "GATEWAY_URL", "simulated+postgresql"),
    ("notification_service", "DATABASE_URL", "postgresql"),
    ("notification_service", "EMAIL_URL", "smtp"),
    ("notification_service", "SMS_URL", "sms"),
]
COMMANDS = [
    ("topology", "show"),
    ("audit", "--json"),
    ("dead-letters", "list"),
    ("tour", "--wait-seconds", "0"),
    ("flash-sale", "--running", "--orders", "1", "--seconds", "1"),
    ("up",),
]


def assert_hidden(text: str) -> None:
    lines = [line for line in text.splitlines() if any(shape in line for shape in SHOWN_AS)]
    assert not lines, lines


async def all_that_is_shown(service: RunningService) -> str:
    """What it answers, what it logs, and what `ps` says of it and its kin."""
    told = [await told_at(service, "GET", path) for path in PATHS]
    told.append(await told_at(service, "POST", "/orders", json=BODY))
    processes = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]
    commands = [" ".join(process.cmdline()) for process in processes]
    return "\n".join([*told, *commands, service.log.read_text()])


async def told_at(service: RunningService, method: str, path: str, **more: Any) -> str:
    try:
        answer = await service.http.request(method, path, headers=OPERATOR, **more)
    except httpx.RemoteProtocolError as error:  # a stream that broke off: what it read from is away
        return str(error)
    return f"{answer.headers} {answer.text}"


async def shown_once_it_says(why: str, service: RunningService) -> str:
    async def look() -> bool:
        answer = await service.http.get("/readyz")
        return why in answer.text

    await eventually(look, 20, f"{why!r} in /readyz")
    return await all_that_is_shown(service)


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize(("service", "name", "scheme"), SCHEMES)
def test_a_malformed_url_ends_the_start_with_a_line_that_hides_it(
    service: str, name: str, scheme: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, url.format(scheme=scheme, marker=MARKER))
    with pytest.raises(SystemExit) as ended:
        load(SETTINGS[service])
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.err.startswith(f"{name}: ")
    assert len(shown.err.splitlines()) == 1
    assert_hidden(shown.out + shown.err)


@pytest.fixture
def closed_port() -> int:
    return free_ports(1)[0]


async def test_a_broker_that_is_away(tmp_path: Path, closed_port: int) -> None:
    nobody = BrokerSettings(rabbitmq_url=f"amqp://ada:{MARKER}@127.0.0.1:{closed_port}/")
    async with running("order_service", nobody, tmp_path, until="/livez") as service:
        assert_hidden(await shown_once_it_says("RabbitMQ is away", service))


async def test_a_broker_that_knows_another_password(broker: Broker, tmp_path: Path) -> None:
    port = urlsplit(broker.amqp_url()).port
    wrong = BrokerSettings(rabbitmq_url=f"amqp://guest:{MARKER}@127.0.0.1:{port}/")
    async with running("order_service", wrong, tmp_path, until="/livez") as service:
        assert_hidden(await shown_once_it_says("ACCESS_REFUSED", service))


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("order_service", "DATABASE_URL"),
        ("payment_service", "DATABASE_URL"),
        ("payment_service", "GATEWAY_URL"),
        ("notification_service", "DATABASE_URL"),
    ],
)
@pytest.mark.parametrize("why", ["refused", "does not exist"])
async def test_a_database_that_is_away_or_lets_nobody_in(
    service: str, name: str, why: str, module_broker_settings: BrokerSettings, postgres: PrivatePostgres,
    tmp_path: Path, closed_port: int,
) -> None:  # fmt: skip
    port = closed_port if why == "refused" else postgres.port
    scheme = "simulated+postgresql" if name == "GATEWAY_URL" else "postgresql"
    value = f"{scheme}://nobody:{MARKER}@127.0.0.1:{port}/nothing"
    given: dict[str, Any] = {name: value}
    async with running(service, module_broker_settings, tmp_path, until="/livez", **given) as ran:
        assert_hidden(await shown_once_it_says(why, ran))


@pytest_asyncio.fixture
async def strict_mail() -> AsyncIterator[int]:
    """The port of a mail server that lets nobody in."""
    (port,) = free_ports(1)

    def nobody(*_: Any) -> AuthResult:
        return AuthResult(success=False, handled=False)

    controller = Controller(
        MailServer(), hostname="127.0.0.1", port=port, authenticator=nobody, auth_require_tls=False, auth_required=True
    )
    controller.start()
    yield port
    controller.stop()


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # without TLS: nobody listens here
@pytest.mark.parametrize("reachable", [True, False])
async def test_a_mail_server_that_is_away_or_lets_nobody_in(
    reachable: bool, wire: Wire, strict_mail: int, closed_port: int, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "EMAIL_URL": f"smtp://ada:{MARKER}@127.0.0.1:{strict_mail if reachable else closed_port}",
        "EMAIL_RETRY_DELAYS_SECONDS": "0.2",
    }
    async with running("notification_service", wire.settings, tmp_path, **settings) as service:
        paid = examples.payment_succeeded(email="ada@example.com")
        wire.send(paid)
        # Its outage holds the delivery, its refusal of us is a failed attempt: either is told in the log.
        await eventually(lambda: EMAIL_QUEUE in service.log.read_text(), 20, "the mail to be tried")
        shown = await all_that_is_shown(service)
        told = [f"{message.headers}{message.body!r}" for message in wire.messages("notifications", paid.subject)]
    assert EMAIL_QUEUE in shown
    assert_hidden("\n".join([shown, *told]))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_the_command_line_hides_what_it_cannot_use(
    command: tuple[str, ...], broker: Broker, tmp_path: Path, closed_port: int
) -> None:
    services = {
        f"{name}_SERVICE_URL": f"http://127.0.0.1:{closed_port}" for name in ("ORDER", "PAYMENT", "NOTIFICATION")
    }
    if command[0] in ("up", "flash-sale"):
        command = (*command, "--run-directory", str(tmp_path / "run"))
    amqp, http = urlsplit(broker.amqp_url()).port, urlsplit(broker.management_url).port
    for amqp_at, http_at in ((amqp, http), (closed_port, closed_port)):
        broker_at = {
            "RABBITMQ_URL": f"amqp://guest:{MARKER}@127.0.0.1:{amqp_at}/",
            "RABBITMQ_MANAGEMENT_URL": f"http://guest:{MARKER}@127.0.0.1:{http_at}",
        }
        ended = await order_rail(*command, **services, **broker_at)
        assert ended.status not in (0, None)
        assert ended.output + ended.errors
        assert_hidden(ended.output + ended.errors)
    for url in MALFORMED[:1]:
        ended = await order_rail(*command, **services, RABBITMQ_URL=url.format(scheme="amqp", marker=MARKER))
        assert ended.status not in (0, None)
        assert "RABBITMQ_URL" in ended.output + ended.errors
        assert_hidden(ended.output + ended.errors)

"""A password in a URL is shown nowhere: not where it is refused, not while it is used, not where access fails."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from control_room.launcher.ports import free_ports
from shared.settings import BrokerSettings, load
from tests import examples
from tests.conftest import Broker
from tests.order_rail import order_rail
from tests.receiver import receiving
from tests.service.mail import mail_server
from tests.service.process import OPERATOR, RunningService, running
from tests.service.test_following_orders import BODY
from tests.service.wire import Wire
from tests.support import DELAYS_VARIABLES, eventually
from tests.unit.test_settings import SETTINGS

CHANNELS = ("sms", "push", "restaurant")
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
    ("notification_service", "SMS_URL", "json"),
    ("notification_service", "PUSH_URL", "ntfys"),
    ("notification_service", "RESTAURANT_URL", "https"),
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


def commands_of(pid: int) -> str:
    """What `ps` shows of a process and its descendants."""
    process = psutil.Process(pid)
    return "\n".join(" ".join(each.cmdline()) for each in (process, *process.children(recursive=True)))


async def output_of(service: RunningService) -> str:
    """All its answers, its log, and what `ps` shows of it."""
    answers = [await answer_to(service, "GET", path) for path in PATHS]
    answers.append(await answer_to(service, "POST", "/orders", json=BODY))
    return "\n".join([*answers, commands_of(service.process.pid), service.log.read_text()])


async def answer_to(service: RunningService, method: str, path: str, **more: Any) -> str:
    try:
        answer = await service.http.request(method, path, headers=OPERATOR, **more)
    except httpx.RemoteProtocolError as error:  # a stream that broke off, since its database is away
        return str(error)
    return f"{answer.headers} {answer.text}"


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize(("service", "name", "scheme"), SCHEMES)
def test_a_malformed_url_ends_the_start_with_a_line_that_hides_it(
    service: str, name: str, scheme: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipient = "/{to}" if name in ("SMS_URL", "PUSH_URL") else ""
    monkeypatch.setenv(name, url.format(scheme=scheme, marker=MARKER) + recipient)
    monkeypatch.setenv("WEBHOOK_SECRET", f"{MARKER} and more")
    with pytest.raises(SystemExit) as ended:
        load(SETTINGS[service])
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"{name}: ")
    assert_hidden(printed.out + line)


@pytest.fixture
def closed_port() -> int:
    return free_ports(1)[0]


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "refusing"])
@pytest.mark.parametrize(("service", "name", "scheme"), [row for row in SCHEMES if row[2].endswith(("amqp", "sql"))])
async def test_a_server_that_is_away_or_refuses_the_user(
    service: str, name: str, scheme: str, is_away: bool, broker: Broker, module_broker_settings: BrokerSettings,
    tmp_path: Path, closed_port: int, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if scheme == "amqp":
        open_port = urlsplit(broker.amqp_url()).port
        why = "RabbitMQ is away: Connection refused" if is_away else "ACCESS_REFUSED"
    else:
        open_port, why = request.getfixturevalue("postgres").port, "refused" if is_away else "does not exist"
    port = closed_port if is_away else open_port
    given: dict[str, Any] = {name: f"{scheme}://nobody:{MARKER}@127.0.0.1:{port}/nothing"}
    alone = running(service, module_broker_settings, tmp_path, until="/livez", has_tables=scheme == "amqp", **given)
    async with alone as running_service:

        async def says_why() -> bool:
            return why in (await running_service.http.get("/readyz")).text

        await eventually(says_why, 20, f"{why!r} in /readyz")
        assert_hidden(await output_of(running_service))


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "refusing"])
async def test_a_mail_server_that_is_away_or_refuses_the_user(
    is_away: bool, wire: Wire, closed_port: int, tmp_path: Path
) -> None:
    async with mail_server({"EHLO": "250-mail.example\r\n250 AUTH PLAIN", "AUTH": "535 no"}) as strict:
        address = f"127.0.0.1:{closed_port}" if is_away else strict.url.removeprefix("smtp://")
        settings: dict[str, Any] = {"EMAIL_URL": f"smtp://ada:{MARKER}@{address}", "EMAIL_RETRY_DELAYS_SECONDS": "0.2"}
        # What the test before left in the queue may be refused before it is ready.
        async with running("notification_service", wire.settings, tmp_path, until="/livez", **settings) as service:
            wire.send(paid := examples.payment_succeeded())
            # Both hold the delivery, which is logged.
            await eventually(lambda: EMAIL_QUEUE in service.log.read_text(), 20, "the mail to be tried")
            messages = [f"{each.headers}{each.body!r}" for each in wire.messages("notifications", paid.subject)]
            assert_hidden("\n".join([await output_of(service), *messages]))


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "refusing"])
async def test_providers_that_are_away_or_refuse_the_user(
    is_away: bool, wire: Wire, closed_port: int, tmp_path: Path
) -> None:
    async with receiving() as strict:
        strict.answer = "401 Unauthorized"
        address = f"127.0.0.1:{closed_port}" if is_away else strict.address
        secret = f"ada:{MARKER}@{address}/{MARKER}"
        settings: dict[str, Any] = {
            "SMS_URL": f"json://{secret}/{{to}}?:token={MARKER}&rto=1", "PUSH_URL": f"xml://{secret}/{{to}}",
            "RESTAURANT_URL": f"http://{secret}?token={MARKER}", "WEBHOOK_SECRET": f"{MARKER} and more",
        }  # fmt: skip
        delays: dict[str, Any] = dict.fromkeys(DELAYS_VARIABLES, "0.2")
        async with running("notification_service", wire.settings, tmp_path, **settings, **delays) as service:
            wire.send(paid := examples.payment_succeeded(phone=examples.PHONE, push=MARKER))

            def all_have_failed() -> bool:
                lines = [line for line in service.log.read_text().splitlines() if "deliver" in line]
                return all(any(f"notification_service.{name}" in line for line in lines) for name in CHANNELS)

            await eventually(all_have_failed, 30, "every channel to fail")
            messages = [f"{each.headers}{each.body!r}" for each in wire.messages("notifications", paid.subject)]
            assert_hidden("\n".join([await output_of(service), *messages]))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_the_command_line_hides_what_it_cannot_use(
    command: tuple[str, ...], broker: Broker, tmp_path: Path, closed_port: int
) -> None:
    services = {
        f"{name}_SERVICE_URL": f"http://127.0.0.1:{closed_port}" for name in ("ORDER", "PAYMENT", "NOTIFICATION")
    }
    if command[0] in ("up", "flash-sale"):
        command = (*command, "--run-directory", str(tmp_path / "run"))
    open_ports = urlsplit(broker.amqp_url()).port, urlsplit(broker.management_url).port
    brokers = [
        {
            "RABBITMQ_URL": f"amqp://guest:{MARKER}@127.0.0.1:{amqp}/",
            "RABBITMQ_MANAGEMENT_URL": f"http://guest:{MARKER}@127.0.0.1:{http}",
        }
        for amqp, http in (open_ports, (closed_port, closed_port))
    ]
    for variables in (*brokers, {"RABBITMQ_URL": MALFORMED[0].format(scheme="amqp", marker=MARKER)}):
        ended = await order_rail(*command, **services, **variables)
        printed = ended.output + ended.errors
        assert ended.status not in (0, None)
        assert printed
        assert len(variables) > 1 or "RABBITMQ_URL" in printed
        assert_hidden(printed)

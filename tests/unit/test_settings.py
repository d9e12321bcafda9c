"""Configuration: every malformed variable ends the process with status 2 and a line that names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import notification_service.app
import order_service.app
import payment_service.app
from notification_service.smtp_url import TRY_SECONDS, SmtpUrl
from shared.contract import SECOND_TRY_SECONDS
from shared.messaging.processor import HOLD_SECONDS
from shared.settings import BrokerSettings, ServiceSettings, load

SETTINGS: dict[str, type[ServiceSettings]] = {
    "order_service": order_service.app.Settings,
    "payment_service": payment_service.app.Settings,
    "notification_service": notification_service.app.Settings,
}

EVERYWHERE = [
    ("RABBITMQ_URL", "localhost:5672"),
    ("RABBITMQ_URL", "http://localhost"),
    ("RABBITMQ_URL", "amqp://"),
    ("RABBITMQ_URL", "amqp://localhost:port"),
    ("RABBITMQ_URL", "amqp://localhost:99999"),
    ("RABBITMQ_URL", "amqp://localhost/?heartbeat=often"),
    ("RABBITMQ_MANAGEMENT_URL", "localhost:15672"),
    ("RABBITMQ_MANAGEMENT_URL", "http://localhost:port"),
    ("RETRY_DELAYS_SECONDS", "soon"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "soon"),
    ("RETRY_DELAYS_SECONDS", "1,,5"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "1,,5"),
    ("RETRY_DELAYS_SECONDS", "0"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "0"),
    ("RETRY_DELAYS_SECONDS", "-1"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "-1"),
    ("RETRY_DELAYS_SECONDS", "nan"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "nan"),
    ("RETRY_DELAYS_SECONDS", "inf"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "inf"),
    ("RETRY_DELAYS_SECONDS", "86401"),
    ("EMAIL_RETRY_DELAYS_SECONDS", "86401"),
    ("DATABASE_URL", "orders.db"),
    ("DATABASE_URL", "oracle://localhost/orders"),
    ("DATABASE_URL", "postgresql://localhost:port/orders"),
    ("DATABASE_URL", "postgresql://user:half@password@localhost/orders"),
    ("DATABASE_URL", "postgresql://user:half/pass@localhost/orders"),
    ("DATABASE_URL", "postgresql://user:12/pass@localhost/orders"),
    ("DATABASE_URL", "postgresql://user:12?pass@localhost/orders"),
    ("DATABASE_URL", "postgresql://user:12#pass@localhost/orders"),
    ("OPERATOR_TOKEN", "schlüssel"),
    ("OPERATOR_TOKEN", "two\nlines"),
    ("OPERATOR_TOKEN", " padded"),
    ("HTTP_PORT", "eighty"),
    ("HTTP_PORT", "-1"),
    ("HTTP_PORT", "65536"),
    ("LOG_FORMAT", "xml"),
]
MALFORMED = [
    *[(service, name, value) for service in SETTINGS for name, value in EVERYWHERE],
    ("payment_service", "PAYMENT_CONCURRENCY", "0"),
    ("payment_service", "PAYMENT_CONCURRENCY", "many"),
    ("payment_service", "GATEWAY_LATENCY_SECONDS", "-0.1"),
    ("payment_service", "GATEWAY_LATENCY_SECONDS", "nan"),
    ("payment_service", "GATEWAY_LATENCY_SECONDS", "3600"),
    ("payment_service", "GATEWAY_URL", "https://gateway.example"),
    ("payment_service", "GATEWAY_URL", "simulated+nonsense"),
    ("notification_service", "EMAIL_URL", "mail.example:25"),
    ("notification_service", "EMAIL_URL", "smtp://"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example:port"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example/path"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example#fragment"),
    ("notification_service", "EMAIL_URL", "smtp://mail..example"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?nonsense=1"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?verify"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?verify=perhaps"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?cafile=/no/such/file.pem"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?cafile=/dev/null"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?cafile=/etc/passwd&verify=no"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?verify=yes&verify=no"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?ehlo=no_name"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?starttls=perhaps"),
    ("notification_service", "EMAIL_URL", "smtps://mail.example?starttls=required"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?final_seconds=0"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?final_seconds=nan"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?final_seconds=1201"),
    ("notification_service", "EMAIL_URL", "smtp://mail.example?greeting_seconds=soon"),
    ("notification_service", "SMS_URL", "carrier-pigeon://roof"),
    ("notification_service", "RESTAURANT_URL", "nonsense"),
]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings_class in SETTINGS.values():
        for name in settings_class.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(("service", "name", "value"), MALFORMED)
def test_a_malformed_variable_is_named_on_one_line(
    service: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as caught:
        load(SETTINGS[service])

    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")


def test_every_wrong_variable_gets_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HTTP_PORT", "eighty")
    monkeypatch.setenv("RABBITMQ_URL", "nonsense")

    with pytest.raises(SystemExit):
        load(order_service.app.Settings)

    named = {line.partition(":")[0] for line in capsys.readouterr().err.splitlines()}
    assert named == {"HTTP_PORT", "RABBITMQ_URL"}


def test_a_bad_url_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RABBITMQ_URL", "http://guest:s3cret@localhost")
    monkeypatch.setenv("DATABASE_URL", "oracle://guest:s3cret@localhost/orders")

    with pytest.raises(SystemExit):
        load(order_service.app.Settings)

    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["smtp://user:s3cret@mail.example?nonsense=1", "smtp://user:s3cret?x@mail.example", "smtp://s3cret@mail..example"],
)
def test_a_bad_email_url_does_not_show_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMAIL_URL", url)

    with pytest.raises(SystemExit):
        load(notification_service.app.Settings)

    assert "s3cret" not in capsys.readouterr().err


def test_the_limits_of_smtp_are_those_of_rfc_5321_unless_the_url_sets_others() -> None:
    limits = SmtpUrl.of("smtp://mail.example").limits
    rfc = (limits.greeting_seconds, limits.command_seconds, limits.data_seconds, limits.content_seconds)
    assert (*rfc, limits.final_seconds) == (300, 300, 120, 180, 600)

    url = SmtpUrl.of("smtp://us%40er:p%2Fw@mail.example:2525?final_seconds=0.5&starttls=never&verify=no")
    assert (url.user, url.password, url.port, url.start_tls) == ("us@er", "p/w", 2525, "never")
    assert (url.limits.final_seconds, url.limits.greeting_seconds) == (0.5, 300)
    assert "p/w" not in str(url)


def test_the_time_for_one_mail_and_for_holding_it_is_within_what_rabbitmq_allows() -> None:
    taken_back_after_seconds = 30 * 60
    assert taken_back_after_seconds > HOLD_SECONDS + SECOND_TRY_SECONDS + TRY_SECONDS


@pytest.mark.parametrize(("service", "port"), [(name, 8000 + number) for number, name in enumerate(SETTINGS)])
def test_an_empty_environment_gives_the_documented_defaults(service: str, port: int) -> None:
    settings = load(SETTINGS[service])

    assert (settings.http_host, settings.http_port) == ("127.0.0.1", port)
    assert settings.retry_delays_seconds == (1.0, 5.0, 30.0)
    assert settings.database_url == f"sqlite:///.run/{service}.db"
    assert settings.operator_token == ""


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "")
    monkeypatch.setenv("DATABASE_URL", "")

    assert load(order_service.app.Settings).retry_delays_seconds == (1.0, 5.0, 30.0)


def test_emails_are_tried_for_an_hour_whatever_the_others_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1,2")

    settings = load(notification_service.app.Settings)

    assert sum(settings.retry_delays_of("notification_service.email")) > 3600
    assert settings.retry_delays_of("notification_service.sms") == (1.0, 2.0)
    assert settings.retry_delays_of("payment_service.charge") == (1.0, 2.0)

    monkeypatch.setenv("EMAIL_RETRY_DELAYS_SECONDS", "0.5,7")
    assert load(BrokerSettings).retry_delays_of("notification_service.email") == (0.5, 7.0)


def test_delays_are_read_from_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "0.2, 5,86400")

    assert load(BrokerSettings).retry_delays_seconds == (0.2, 5.0, 86400.0)


@pytest.mark.parametrize(
    ("url", "vhost"),
    [
        ("amqp://h", "/"),
        ("amqp://h/", "/"),
        ("amqp://h/%2F", "/"),
        ("amqp://h/shop", "shop"),
        ("amqp://h/a%2Fb", "a/b"),
    ],
)
def test_the_virtual_host_is_the_urls_path(url: str, vhost: str) -> None:
    assert BrokerSettings(rabbitmq_url=url).vhost == vhost


def test_the_management_url_is_the_brokers_host_unless_it_is_given() -> None:
    assert BrokerSettings(rabbitmq_url="amqp://ada:p%40ss@mq:5672/x").management_url == "http://ada:p%40ss@mq:15672"
    assert BrokerSettings(rabbitmq_management_url="https://mq").management_url == "https://mq"


@pytest.mark.parametrize(
    ("service", "name", "value"),
    [
        ("order_service", "HTTP_PORT", "eighty"),
        ("payment_service", "GATEWAY_URL", "nonsense"),
        ("notification_service", "EMAIL_URL", "nonsense"),
    ],
)
def test_a_service_with_a_malformed_variable_does_not_start(
    service: str, name: str, value: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", service], cwd=tmp_path, env={**os.environ, name: value},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith(f"{name}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())

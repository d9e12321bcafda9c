"""Configuration: every malformed variable ends the process with status 2 and a line that names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import notification_service.app
import notification_service.contract
import order_service.app
import payment_service.app
from control_room.operations.prune import RetentionSettings
from notification_service.smtp_url import TRY_SECONDS, SmtpUrl
from shared.contract import SECOND_TRY_SECONDS
from shared.messaging.processor import HOLD_SECONDS
from shared.settings import BrokerSettings, ServiceSettings, load

SETTINGS: dict[str, type[ServiceSettings]] = {
    "order_service": order_service.app.Settings,
    "payment_service": payment_service.app.Settings,
    "notification_service": notification_service.app.Settings,
}

DELAYS = ["soon", "1,,5", "0", "-1", "nan", "inf", "86401"]
EVERYWHERE = {
    "RABBITMQ_URL": [
        "localhost:5672",
        "http://guest:s3cret@localhost",
        "amqp://localhost:99999",
        "amqp://localhost/?heartbeat=often",
    ],
    "RABBITMQ_MANAGEMENT_URL": ["localhost:15672", "http://localhost:port"],
    "RETRY_DELAYS_SECONDS": DELAYS,
    "EMAIL_RETRY_DELAYS_SECONDS": DELAYS,
    "PUSH_RETRY_DELAYS_SECONDS": DELAYS,
    "DATABASE_URL": ["orders.db", "oracle://guest:s3cret@localhost/orders", "postgresql://localhost:port/orders"],
    "OPERATOR_TOKEN": ["schlüssel", "two\nlines", " padded"],
    "HTTP_PORT": ["eighty", "-1", "65536"],
    "LOG_FORMAT": ["xml"],
    "EVENTS_KEPT_HOURS": ["-1", "1.5", "a week"],
    "EVENTS_KEPT_BYTES": ["0", "5 GB"],
}
OWN = {
    "order_service": {},
    "payment_service": {
        "PAYMENT_CONCURRENCY": ["0", "many"],
        "GATEWAY_LATENCY_SECONDS": ["-0.1", "nan", "3600"],
        "GATEWAY_URL": ["https://gateway.example", "simulated+nonsense", "stripe://sk_s3cret@host"],
        "STRIPE_API_BASE": ["api.example", "http://api.example", "https://"],
    },
    "notification_service": {
        "EMAIL_URL": [
            "mail.example:25", "smtp://", "smtp://mail.example:port", "smtp://mail.example/path",
            "smtp://mail.example#fragment", "smtp://mail..example", *(f"smtp://mail.example?{query}" for query in (
                "nonsense=1", "verify", "verify=perhaps", "cafile=/no/such/file.pem", "cafile=/dev/null",
                "cafile=/etc/passwd&verify=no", "verify=yes&verify=no", "ehlo=no_name", "starttls=perhaps",
                "final_seconds=0", "final_seconds=nan", "final_seconds=1201", "greeting_seconds=soon",
                "connections=0", "connections=11")),
            "smtps://mail.example?starttls=required",
            "smtp://user:s3cret@mail.example?nonsense=1", "smtp://s3cret@mail..example",
        ],
        "SMS_URL": ["carrier-pigeon://roof/{to}", "json://s3cret.example", "json:///{to}?s3cret=1"],
        "PUSH_URL": ["ntfy://ntfy.example/s3cret"],
        # There is no secret.
        "RESTAURANT_URL": ["nonsense", "https://", "https://kitchen.example/s3cret", "https://user:s3cret@[::1/"],
        "WEBHOOK_SECRET": ["s3cret"],
        "WEBHOOK_SECRET_FILE": ["/no/such/file", "/dev/null"],
        "TEMPLATES_FOLDER": ["/no/such/folder", "/tmp"],
    },
}  # fmt: skip
MALFORMED = [
    (service, name, value)
    for service in SETTINGS
    for name, values in (EVERYWHERE | OWN[service]).items()
    for value in values
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

    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert line.startswith(f"{name}: ")
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "stripe:// needs STRIPE_API_KEY, or STRIPE_API_KEY_FILE"),
        ({"STRIPE_API_KEY": "sk_s3cret", "STRIPE_API_KEY_FILE": "/some/file"}, "and not both"),
        ({"STRIPE_API_KEY": "pk_s3cret"}, "expected a secret or a restricted key"),
        ({"STRIPE_API_KEY_FILE": "/no/such/file"}, "STRIPE_API_KEY_FILE can't be read: [Errno 2]"),
    ],
)
def test_stripe_without_a_usable_key_does_not_start(
    variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"GATEWAY_URL": "stripe://", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        load(payment_service.app.Settings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("STRIPE_API_KEY: ")
    assert sentence in line
    assert "s3cret" not in line


def test_a_key_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("rk_live_1\n")
    monkeypatch.setenv("GATEWAY_URL", "stripe://")
    monkeypatch.setenv("STRIPE_API_KEY_FILE", str(tmp_path / "key"))
    assert load(payment_service.app.Settings).gateway_options.stripe_key == "rk_live_1"


def test_stripe_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("payment_service.gateways.find_spec", lambda _name: None)
    monkeypatch.setenv("GATEWAY_URL", "stripe://")
    with pytest.raises(SystemExit):
        load(payment_service.app.Settings)
    assert "GATEWAY_URL: Value error, stripe:// needs the package `stripe`: pip install 'order-rail[stripe]'" in (
        capsys.readouterr().err
    )


def test_every_wrong_variable_gets_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HTTP_PORT", "eighty")
    monkeypatch.setenv("RABBITMQ_URL", "nonsense")

    with pytest.raises(SystemExit):
        load(order_service.app.Settings)

    named = {line.partition(":")[0] for line in capsys.readouterr().err.splitlines()}
    assert named == {"HTTP_PORT", "RABBITMQ_URL"}


def test_the_limits_of_smtp_are_those_of_rfc_5321_unless_the_url_sets_others() -> None:
    limits = SmtpUrl.of("smtp://mail.example").options
    rfc = (limits.greeting_seconds, limits.command_seconds, limits.data_seconds, limits.content_seconds)
    assert (*rfc, limits.final_seconds) == (300, 300, 120, 180, 600)

    url = SmtpUrl.of("smtp://us%40er:p%2Fw@mail.example:2525?final_seconds=0.5&starttls=never&verify=no")
    assert (url.user, url.password, url.port, url.options.starttls) == ("us@er", "p/w", 2525, "never")
    assert (url.options.final_seconds, url.options.greeting_seconds) == (0.5, 300)
    assert "p/w" not in str(url)


def test_the_time_for_one_mail_and_for_holding_it_is_within_what_rabbitmq_allows() -> None:
    taken_back_after_seconds = 30 * 60
    assert taken_back_after_seconds > HOLD_SECONDS + SECOND_TRY_SECONDS + TRY_SECONDS


@pytest.mark.parametrize(("service", "port"), [(name, 8000 + number) for number, name in enumerate(SETTINGS)])
def test_an_empty_environment_and_empty_variables_give_the_documented_defaults(
    service: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for empty in ((), ("RETRY_DELAYS_SECONDS", "DATABASE_URL")):
        for name in empty:
            monkeypatch.setenv(name, "")
        settings = load(SETTINGS[service])

        assert (settings.http_host, settings.http_port) == ("127.0.0.1", port)
        assert settings.retry_delays_seconds == (1.0, 5.0, 30.0)
        assert settings.database_url == f"sqlite:///.run/{service}.db"
        assert settings.operator_token == ""


def test_notices_are_tried_for_an_hour_and_mails_longest_whatever_the_other_delays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1,2")

    settings = load(notification_service.app.Settings)

    lasting = {name: sum(settings.retry_delays_of(name)) for name in notification_service.contract.CONTRACT.queue_names}
    assert min(lasting.values()) > 3600
    assert max(lasting, key=lasting.__getitem__) == "notification_service.email"
    assert settings.retry_delays_of("payment_service.charge") == (1.0, 2.0)

    monkeypatch.setenv("EMAIL_RETRY_DELAYS_SECONDS", "0.5, 7,86400")
    assert load(BrokerSettings).retry_delays_of("notification_service.email") == (0.5, 7.0, 86400.0)


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


@pytest.mark.parametrize("value", ["0", "-1", "ninety", "1.5", "36501"])
def test_records_are_kept_for_a_day_at_least(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert load(RetentionSettings).retain_days == 90
    monkeypatch.setenv("RETAIN_DAYS", value)
    with pytest.raises(SystemExit) as ended:
        load(RetentionSettings)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("RETAIN_DAYS: Input should be ")


def test_a_webhook_has_a_secret_from_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESTAURANT_URL", "https://kitchen.example/tickets")
    (file := tmp_path / "secret").write_text("sixteen-and-more\n")
    monkeypatch.setenv("WEBHOOK_SECRET_FILE", str(file))

    assert load(notification_service.app.Settings).webhook_key == "sixteen-and-more"

    monkeypatch.setenv("WEBHOOK_SECRET", "another-of-sixteen")
    with pytest.raises(SystemExit):
        load(notification_service.app.Settings)
    monkeypatch.delenv("WEBHOOK_SECRET_FILE")
    assert load(notification_service.app.Settings).webhook_key == "another-of-sixteen"

"""A system with a password in each of its URLs shows it only in its environment file, which its owner alone reads."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest_asyncio

from shared.management import Management
from shared.settings import BrokerSettings
from tests.conftest import Broker, virtual_host
from tests.end_to_end.test_launcher import brought_up
from tests.order_rail import order_rail
from tests.postgres import PrivatePostgres
from tests.service.test_no_password_is_shown import MARKER, assert_hidden, commands_of
from tests.support import SERVICES, addresses_of

USER = "ada-of-the-test"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest_asyncio.fixture
async def ada(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host, as a user whose password is the marker."""
    async with virtual_host(broker) as settings, Management(settings) as management:
        await management.put("users", USER, body={"password": MARKER, "tags": "administrator"})
        await management.put("permissions", settings.vhost, USER, body=EVERYTHING)
        amqp, http = urlsplit(settings.rabbitmq_url), urlsplit(settings.management_url)
        yield BrokerSettings(
            rabbitmq_url=amqp._replace(netloc=f"{USER}:{MARKER}@127.0.0.1:{amqp.port}").geturl(),
            rabbitmq_management_url=http._replace(netloc=f"{USER}:{MARKER}@127.0.0.1:{http.port}").geturl(),
            retry_delays_seconds=settings.retry_delays_seconds,
        )
        await management.delete("users", USER)


async def pages_of(variables: dict[str, str | None]) -> str:
    paths = dict.fromkeys(SERVICES, ("/readyz", "/metrics", "/openapi.json", "/docs")) | {"control_room": ("/",)}
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = [
            await http.get(f"{variables[f'{name.upper()}_URL']}{path}") for name in paths for path in paths[name]
        ]
    return "\n".join(answer.text for answer in answers)


async def test_a_running_system_shows_no_password(
    ada: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    def database() -> str:
        return postgres.create_database().replace("@", f":{MARKER}@")

    run = tmp_path / "run"
    databases = {f"{name.upper()}_DATABASE_URL": database() for name in SERVICES}
    given = addresses_of(ada) | databases | {"RETRY_DELAYS_SECONDS": "0.2,0.5"}
    with brought_up(run, GATEWAY_URL=f"simulated+{database()}", **given) as up:
        said = await up.is_up()
        assert MARKER in str(said["RABBITMQ_URL"])
        file = ("--environment-file", str(run / "environment"))
        commands: list[tuple[str, ...]] = [
            ("tour",), ("audit", "--json", "--settle-seconds", "0"), ("dead-letters", "list"),
            ("flash-sale", "--orders", "20", "--seconds", "1", "--run-directory", str(tmp_path / "sale")),
        ]  # fmt: skip
        shown = [up.output.read_text(), commands_of(up.process.pid), await pages_of(said)]
        for command in commands:
            ended = await order_rail(*command, *file)
            assert ended.output, ended.errors
            shown += [ended.output, ended.errors]
        written = [path for path in (*run.rglob("*"), *(tmp_path / "sale").rglob("*")) if path.is_file()]
        assert {"order_service.log", "report.md"} <= {path.name for path in written}
        shown += [path.read_text(errors="replace") for path in written if path.name != "environment"]
        assert (run / "environment").stat().st_mode & 0o777 == 0o600
    assert_hidden("\n".join(shown))

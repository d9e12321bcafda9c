"""`order-rail up`: starts all of it, keeps it alive, says where it is, and leaves nothing running."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
from dotenv import dotenv_values

from control_room.launcher.system import SERVICES, LaunchError, Ports, launch
from shared import contract
from shared.settings import BrokerSettings
from tests.conftest import Broker, virtual_host
from tests.order_rail import file_of, order_rail
from tests.support import addresses_of, eventually

RAIL = Path(sys.executable).with_name("order-rail")
START_SECONDS = 90
STOP_SECONDS = 40


class Up:
    """An `order-rail up` that runs as a user would run it, on ports of its own."""

    def __init__(self, run_directory: Path, **environment: str) -> None:
        self.run_directory = run_directory
        self.ports = Ports.free()
        self.output = run_directory.with_suffix(f".{uuid.uuid4().hex[:8]}.output")
        variables = {name.upper(): str(port) for name, port in self.ports.model_dump().items()}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [RAIL, "up", "--run-directory", run_directory],
                env={**os.environ, "RABBITMQ_URL": "", **variables, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def is_up(self) -> dict[str, str | None]:
        await eventually(self._has_environment, START_SECONDS, f"{self.run_directory}/environment to be written")
        return self.environment

    @property
    def environment(self) -> dict[str, str | None]:
        return dotenv_values(self.run_directory / "environment")

    def _has_environment(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"order-rail up ended with {self.process.returncode}: {self.output.read_text()}")
        return (self.run_directory / "environment").exists()

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, STOP_SECONDS, "order-rail up to end")
        return self.process.returncode


@contextmanager
def brought_up(run_directory: Path, **environment: str) -> Iterator[Up]:
    up = Up(run_directory, **environment)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()


@pytest.fixture
def up(run_directory: Path) -> Iterator[Up]:
    """One for the test to end."""
    with brought_up(run_directory) as running:
        yield running


@pytest.fixture(scope="module")
def shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that the tests of this module leave running."""
    with brought_up(tmp_path_factory.mktemp("up") / "run") as running:
        yield running


@pytest.fixture
def given_broker(module_broker_settings: BrokerSettings) -> dict[str, str]:
    """The environment of a system that uses the tests' broker, in a virtual host of this module's."""
    return {
        "RABBITMQ_URL": module_broker_settings.rabbitmq_url,
        "RABBITMQ_MANAGEMENT_URL": module_broker_settings.management_url,
        "RETRY_DELAYS_SECONDS": ",".join(map(str, module_broker_settings.retry_delays_seconds)),
    }


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def is_ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


async def test_it_says_where_everything_is(shared_up: Up) -> None:
    said = await shared_up.is_up()
    for service in SERVICES:
        assert said[f"{service.upper()}_URL"] == f"http://127.0.0.1:{getattr(shared_up.ports, f'{service}_port')}"
        assert await is_ready(str(said[f"{service.upper()}_URL"]))
        assert psutil.pid_exists(int(str(said[f"{service.upper()}_PID"])))
    assert said["RABBITMQ_URL"] == f"amqp://guest:guest@127.0.0.1:{shared_up.ports.rabbitmq_port}/%2F"
    assert len(str(said["OPERATOR_TOKEN"])) >= 32


async def test_what_dies_is_started_again_and_its_new_pid_is_told(shared_up: Up) -> None:
    before = await shared_up.is_up()
    names = [f"{service.upper()}_PID" for service in SERVICES] + ["RABBITMQ_PID"]
    for name in names:
        os.kill(int(str(before[name])), signal.SIGKILL)

    async def all_are_back() -> bool:
        now = shared_up.environment
        assert all(now.get(name, before[name]) != before[name] for name in names)
        return all([await is_ready(str(now[f"{service.upper()}_URL"])) for service in SERVICES])

    await eventually(all_are_back, START_SECONDS, "new processes, ready again")


async def test_a_second_one_in_the_same_directory_is_refused(shared_up: Up) -> None:
    await shared_up.is_up()
    second = Up(shared_up.run_directory)
    assert await second.ended() == 1
    assert f"already runs in {shared_up.run_directory} (process {shared_up.process.pid})" in second.output.read_text()
    assert await is_ready(str(shared_up.environment["ORDER_SERVICE_URL"]))


async def test_ctrl_c_leaves_nothing_running(up: Up) -> None:
    await up.is_up()
    assert (up.run_directory / "environment").stat().st_mode & 0o777 == 0o600
    family = psutil.Process(up.process.pid).children(recursive=True)
    assert {"epmd", "beam.smp"} <= {process.name() for process in family}
    up.process.send_signal(signal.SIGINT)
    await eventually(lambda: "Stopping" in up.output.read_text(), expecting="it to say that it is stopping")
    up.process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
    assert await up.ended() == 0
    assert alive(family) == []
    assert not (up.run_directory / "environment").exists()


async def test_nothing_survives_when_it_is_killed(up: Up) -> None:
    await up.is_up()
    family = psutil.Process(up.process.pid).children(recursive=True)
    up.process.kill()
    await up.ended()
    await eventually(lambda: not alive(family), expecting="nothing of it to run")


@pytest.mark.parametrize(
    "setting",
    ["order_service_port", "payment_service_port", "notification_service_port", "rabbitmq_port",
     "rabbitmq_management_port"],
)  # fmt: skip
async def test_a_taken_port_is_named_with_its_setting(setting: str, run_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = Ports.free().model_copy(update={setting: port})
        with pytest.raises(LaunchError, match=f"port {port}, for .* is taken; set {setting.upper()} to another one"):
            async with launch(run_directory, ports, {"RABBITMQ_URL": ""}):
                pytest.fail("it should not have started")


async def test_the_broker_that_rabbitmq_url_names_is_used(given_broker: dict[str, str], run_directory: Path) -> None:
    async with launch(run_directory, environment=given_broker) as system:
        assert system.broker is None
        assert "RABBITMQ_PID" not in system.environment
        assert system.environment["RABBITMQ_URL"] == given_broker["RABBITMQ_URL"]
        assert await is_ready(system.url("order_service"))
    assert not (run_directory / "rabbitmq").exists()


async def test_a_service_that_cannot_start_is_named_with_its_reason(
    given_broker: dict[str, str], run_directory: Path
) -> None:
    before = psutil.Process().children(recursive=True)
    environment = {**given_broker, "GATEWAY_LATENCY_SECONDS": "soon"}
    with pytest.raises(LaunchError, match="payment_service ended with status 2 while it started") as failure:
        async with launch(run_directory, environment=environment):
            pytest.fail("it should not have started")
    assert "GATEWAY_LATENCY_SECONDS" in str(failure.value)
    assert set(alive(psutil.Process().children(recursive=True))) <= set(before)


async def test_a_malformed_setting_of_its_own_is_named(run_directory: Path) -> None:
    with pytest.raises(LaunchError, match=r"RETRY_DELAYS_SECONDS: .*, such as 1,5,30"):
        async with launch(run_directory, environment={"RABBITMQ_URL": "", "RETRY_DELAYS_SECONDS": "often"}):
            pytest.fail("it should not have started")


@pytest.mark.parametrize(
    ("host", "shown"), [("::1", "[::1]"), ("[::1]", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1")]
)
async def test_a_system_on_any_host_works_and_its_addresses_do_too(
    host: str, shown: str, broker: Broker, tmp_path: Path
) -> None:
    """In a directory and with an operator token full of signs that mean something to shells, dotenv and URLs."""
    token, directory = 'it\'s ${HOME} "`id`" #1 & 100%\\', tmp_path / 'it\'s a "run" $dir #1 %41'
    async with virtual_host(broker) as settings:
        given = addresses_of(settings) | {"RETRY_DELAYS_SECONDS": "0.2,0.5"}
        with brought_up(directory, HTTP_HOST=host, OPERATOR_TOKEN=token, **given) as up:
            said = await up.is_up()
            assert said["OPERATOR_TOKEN"] == token
            for name in (*SERVICES, "control_room"):
                url = str(said[f"{name.upper()}_URL"])
                assert url == f"http://{shown}:{getattr(up.ports, f'{name}_port')}"
                assert await is_ready(url)
            toured = await order_rail("tour", "--environment-file", str(directory / "environment"))
            assert toured.status == 0, toured.output
            await assert_that_the_link_lets_its_browser_act(up.output.read_text(), token)


async def assert_that_the_link_lets_its_browser_act(output: str, token: str) -> None:
    link = next(word for word in output.split() if word.startswith("http") and "token=" in word)
    assert parse_qs(urlsplit(link).query) == {"token": [token]}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(link)
    assert answer.status_code == 303
    assert "order-rail-operator" in answer.headers["set-cookie"]
    assert "Max-Age=2592000" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("OPERATOR_TOKEN", "two\nlines", "OPERATOR_TOKEN: expected printable ASCII characters"),
        ("OPERATOR_TOKEN", "schlüssel", "OPERATOR_TOKEN: expected printable ASCII characters"),
        ("OPERATOR_TOKEN", " padded ", "OPERATOR_TOKEN: expected printable ASCII characters"),
        ("HTTP_HOST", "no.such.host.invalid", "HTTP_HOST: nothing can listen at no.such.host.invalid here"),
        ("HTTP_HOST", "192.0.2.1", "HTTP_HOST: nothing can listen at 192.0.2.1 here: Cannot assign"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_starts(
    name: str, value: str, sentence: str, run_directory: Path
) -> None:
    with pytest.raises(LaunchError, match=sentence):
        async with launch(run_directory, environment={"RABBITMQ_URL": "", name: value}):
            pytest.fail("it should not have started")
    assert not (run_directory / "rabbitmq").exists()


async def test_a_second_system_on_a_broker_that_is_used_is_refused_and_the_first_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    async with virtual_host(broker) as settings:
        given = addresses_of(settings) | {"RETRY_DELAYS_SECONDS": "0.2,0.5"}
        async with launch(tmp_path / "first", environment=given) as first:
            with brought_up(tmp_path / "second", **given) as second:
                assert await second.ended() == 1
                said = second.output.read_text()
            for queue in contract.queues():
                assert f"{queue} (1)" in said
            assert f"virtual host {settings.vhost}" in said
            assert "Waiting up to 10 s" in said
            assert "flash-sale --running" in said
            assert not list((tmp_path / "second").glob("*_service.log"))
            toured = await order_rail("tour", "--start", **given)
            assert toured.status == 1
            assert "A system runs already" in toured.output
            toured = await order_rail("tour", *file_of(first))
            assert toured.status == 0, toured.output


async def test_a_system_is_started_again_right_after_its_crash(broker: Broker, tmp_path: Path) -> None:
    async with virtual_host(broker) as settings:
        given = addresses_of(settings) | {"RETRY_DELAYS_SECONDS": "0.2,0.5"}
        with brought_up(tmp_path / "run", **given) as first:
            await first.is_up()
            first.process.kill()
            await first.ended()
            with brought_up(tmp_path / "run", **given) as second:
                url = f"http://127.0.0.1:{second.ports.order_service_port}"
                # The file of the one that was killed is still there at first.
                await eventually(
                    lambda: second.environment.get("ORDER_SERVICE_URL") == url, START_SECONDS, "it to be up"
                )
                assert await is_ready(url)


async def test_a_directory_that_cannot_stand_in_a_databases_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="can't hold a database"):
        async with launch(tmp_path / "what?", environment={"RABBITMQ_URL": ""}):
            pytest.fail("it should not have started")

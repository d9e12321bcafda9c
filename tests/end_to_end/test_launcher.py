"""`order-rail up`: starts all of it, keeps it alive, says where it is, and leaves nothing running."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
import pytest_asyncio
from dotenv import dotenv_values

from control_room.launcher import LaunchError
from control_room.launcher.ports import MANAGEMENT, RABBITMQ, Ports, unused_ports
from control_room.launcher.system import launch
from shared import contract
from tests.conftest import QUICK_RETRIES, Broker, virtual_host
from tests.order_rail import file_of, order_rail
from tests.support import SERVICES, addresses_of, eventually, is_alive

RAIL = Path(sys.executable).with_name("order-rail")
START_SECONDS = 90
STOP_SECONDS = 40


class Up:
    """An `order-rail up` that runs as a user would run it, on ports of its own."""

    def __init__(self, run_directory: Path, cwd: str | Path | None = None, **environment: str) -> None:
        self.run_directory = run_directory
        self.ports = unused_ports()
        self.output = run_directory.with_suffix(f".{uuid.uuid4().hex[:8]}.output")
        variables = {name: str(port) for name, port in self.ports.items()}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [RAIL, "up", "--run-directory", run_directory],
                env={**os.environ, "RABBITMQ_URL": "", **variables, **environment},
                cwd=cwd,
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
def brought_up(run_directory: Path, cwd: str | Path | None = None, **environment: str) -> Iterator[Up]:
    up = Up(run_directory, cwd, **environment)
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


@pytest_asyncio.fixture
async def given_broker(broker: Broker) -> AsyncIterator[dict[str, str]]:
    """The environment of a system on the session's broker, in a virtual host of its own."""
    async with virtual_host(broker) as settings:
        yield {**QUICK_RETRIES, **addresses_of(settings)}


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if is_alive(process)]


async def is_ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


async def test_what_dies_is_started_again_and_its_new_pid_is_written(shared_up: Up) -> None:
    before = await shared_up.is_up()
    assert before["RABBITMQ_URL"] == f"amqp://guest:guest@127.0.0.1:{shared_up.ports[RABBITMQ]}/%2F"
    assert len(str(before["OPERATOR_TOKEN"])) >= 32
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


async def assert_refused(
    directory: Path, sentence: str, environment: Mapping[str, str] | None = None, ports: Ports | None = None
) -> None:
    """It does not start, and says why; nothing of it runs."""
    before = psutil.Process().children()  # not theirs: a system that other tests share may start something again
    with pytest.raises(LaunchError, match=sentence):
        async with launch(directory, ports, {"RABBITMQ_URL": "", **(environment or {})}):
            pytest.fail("it should not have started")
    assert set(alive(psutil.Process().children())) <= set(before)
    assert not (directory / "rabbitmq").exists()


@pytest.mark.parametrize("setting", [*(f"{service.upper()}_PORT" for service in SERVICES), RABBITMQ, MANAGEMENT])
async def test_a_taken_port_is_named_with_its_setting(setting: str, run_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = f"port {port}, for .* is taken; set {setting} to another one"
        await assert_refused(run_directory, sentence, ports={**unused_ports(), setting: port})


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
    sentence = r"payment_service ended with status 2 while it started(.|\n)*GATEWAY_LATENCY_SECONDS"
    await assert_refused(run_directory, sentence, {**given_broker, "GATEWAY_LATENCY_SECONDS": "soon"})


async def test_a_database_that_is_not_ours_is_refused(given_broker: dict[str, str], run_directory: Path) -> None:
    run_directory.mkdir()
    with closing(sqlite3.connect(run_directory / "gateway.db")) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    sentence = r"gateway \(sqlite://.*/gateway.db\) was not upgraded: it is another program's.* it has customers"
    await assert_refused(run_directory, sentence, given_broker)


@pytest.mark.parametrize(("host", "shown"), [("::", "[::1]"), ("0.0.0.0", "127.0.0.1")])
async def test_a_system_on_any_host_works_and_its_addresses_do_too(
    host: str, shown: str, given_broker: dict[str, str], tmp_path: Path
) -> None:
    """In a directory and with an operator token full of signs that mean something to shells, dotenv and URLs.

    A unit test has every other way to write a host.
    """
    token, directory = 'it\'s ${HOME} "`id`" #1 & 100%\\', tmp_path / 'it\'s a "run" $dir #1 %41'
    with brought_up(directory, HTTP_HOST=host, OPERATOR_TOKEN=token, **given_broker) as up:
        variables = await up.is_up()
        assert variables["OPERATOR_TOKEN"] == token
        for name in (*SERVICES, "control_room"):
            url = str(variables[f"{name.upper()}_URL"])
            assert url == f"http://{shown}:{up.ports[f'{name.upper()}_PORT']}"
            assert await is_ready(url)
        ended = await order_rail("audit", "--environment-file", str(directory / "environment"))
        assert ended.status == 0, ended.output + ended.errors
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
        ("OPERATOR_TOKEN", "two\nlines", "OPERATOR_TOKEN: expected printable ASCII"),
        ("OPERATOR_TOKEN", "schlüssel", "OPERATOR_TOKEN: expected printable ASCII"),
        ("OPERATOR_TOKEN", " padded ", "OPERATOR_TOKEN: expected printable ASCII"),
        ("HTTP_HOST", "no.such.host.invalid", "HTTP_HOST: nothing can listen at no.such.host.invalid here"),
        ("HTTP_HOST", "192.0.2.1", "HTTP_HOST: nothing can listen at 192.0.2.1 here: Cannot assign"),
        ("RETRY_DELAYS_SECONDS", "often", r"RETRY_DELAYS_SECONDS: .*, such as 1,5,30"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_starts(
    name: str, value: str, sentence: str, run_directory: Path
) -> None:
    await assert_refused(run_directory, sentence, {name: value})


async def test_a_directory_that_cannot_stand_in_a_databases_url_is_refused(tmp_path: Path) -> None:
    await assert_refused(tmp_path / "what?", "can't hold a database")


async def test_a_second_system_on_a_broker_that_is_used_is_refused_and_the_first_goes_on(
    given_broker: dict[str, str], tmp_path: Path
) -> None:
    async with launch(tmp_path / "first", environment=given_broker) as first:
        with brought_up(tmp_path / "second", **given_broker) as second:
            assert await second.ended() == 1
            output = second.output.read_text()
        for queue in contract.queues():
            assert f"{queue} (1)" in output
        assert f"virtual host {first.broker_settings.vhost}" in output
        assert "Waiting up to 10 s" in output
        assert "flash-sale --running" in output
        assert not list((tmp_path / "second").glob("*_service.log"))
        toured = await order_rail("tour", "--start", **given_broker)
        assert toured.status == 1
        assert "A system runs already" in toured.output
        toured = await order_rail("tour", *file_of(first))
        assert toured.status == 0, toured.output


async def test_a_system_is_started_again_right_after_its_crash(given_broker: dict[str, str], tmp_path: Path) -> None:
    with brought_up(tmp_path / "run", **given_broker) as first:
        await first.is_up()
        first.process.kill()
        await first.ended()
        with brought_up(tmp_path / "run", **given_broker) as second:
            url = f"http://127.0.0.1:{second.ports['ORDER_SERVICE_PORT']}"
            # The file of the one that was killed is still there at first.
            await eventually(lambda: second.environment.get("ORDER_SERVICE_URL") == url, START_SECONDS, "it to be up")
            assert await is_ready(url)

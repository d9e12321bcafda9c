"""`python -m tests.newest_broker [PYTEST ARGUMENT]...`: a core of the tests on the RabbitMQ of the compose file.

It runs in a container of its own, on free ports; the other tests run on the RabbitMQ that is installed. Needs a
container engine. The exit status is pytest's.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

PROJECT = Path(__file__).parent.parent
IMAGE = "rabbitmq:4.3-management"
START_WITHIN_SECONDS = 120.0
AMQP_PORT, MANAGEMENT_PORT = 5672, 15672
CONFIGURATION = ("advanced.config", "enabled_plugins")
PARTITIONS = "tests/integration/test_partitions.py"
TWO_AT_A_TIME = ("--numprocesses=2", "--dist=loadfile")
CORE = (
    "tests/integration/test_publisher.py",
    "tests/integration/test_consumer.py",
    PARTITIONS,
    "tests/integration/test_wire.py",
    "tests/integration/test_stream.py",
    "tests/integration/test_topology.py",
    "tests/integration/test_parked_messages.py",
    "tests/service/test_controls.py",
    "tests/end_to_end/test_dead_letters.py",
    "tests/end_to_end/test_sweep.py",
)

ALONE = (f"{PARTITIONS}::test_a_key_keeps_its_partition_and_its_sequence_when_the_broker_starts_again",)
"""The broker is started again in them."""
ON_A_NODE_OF_THEIR_OWN = (
    "tests/integration/test_publisher.py::test_a_message_whose_confirm_never_comes_has_an_unknown_outcome",
    "tests/integration/test_stream.py::test_a_stream_goes_on_after_its_node_was_killed",
    "tests/integration/test_topology.py::test_keep_goes_on_after_the_broker_was_away",
)
"""They start the RabbitMQ that is installed, and say nothing of the newest."""


def main() -> int:
    with broker() as (container, amqp_url, management_url):
        environment = {**os.environ, "RABBITMQ_URL": amqp_url, "RABBITMQ_MANAGEMENT_URL": management_url}
        if sys.argv[1:]:
            return pytest(environment, *sys.argv[1:])
        status = pytest(environment, *CORE, *(f"--deselect={test}" for test in (*ALONE, *ON_A_NODE_OF_THEIR_OWN)))
        control = f"docker exec {container} rabbitmqctl --quiet"
        environment["RESTART_BROKER"] = f"{control} stop_app && {control} start_app"
        return pytest(environment, *ALONE) or status


def pytest(environment: Mapping[str, str], *arguments: str) -> int:
    """Its exit status."""
    command = [sys.executable, "-m", "pytest", *TWO_AT_A_TIME, *arguments]
    return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode


@contextmanager
def broker() -> Iterator[tuple[str, str, str]]:
    """The container, the AMQP and the management URL of a new broker, which is removed when the block ends."""
    files = [f"--volume={PROJECT}/deploy/rabbitmq/{name}:/etc/rabbitmq/{name}:ro" for name in CONFIGURATION]
    ports = [f"--publish=127.0.0.1::{port}" for port in (AMQP_PORT, MANAGEMENT_PORT)]
    user = ["--env=RABBITMQ_DEFAULT_USER=tests", "--env=RABBITMQ_DEFAULT_PASS=tests"]
    container = docker("run", "--detach", "--rm", *ports, *user, *files, IMAGE)
    try:
        amqp, management = (docker("port", container, str(port)) for port in (AMQP_PORT, MANAGEMENT_PORT))
        management_url = f"http://tests:tests@{management}"
        wait_until_ready(management_url)
        yield container, f"amqp://tests:tests@{amqp}/", management_url
    finally:
        docker("rm", "--force", container)


def docker(*arguments: str) -> str:
    """Its output. Raises CalledProcessError; the engine has then said why."""
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def wait_until_ready(management_url: str) -> None:
    """Raises httpx.HTTPError if it is not ready in time."""
    for attempt in Retrying(
        retry=retry_if_exception_type(httpx.HTTPError),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(START_WITHIN_SECONDS),
        reraise=True,
    ):
        with attempt:
            answer = httpx.get(f"{management_url}/api/overview", trust_env=False).raise_for_status()
            print(f"RabbitMQ {answer.json()['rabbitmq_version']}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

"""`docker compose up` on a fresh clone: the same system in containers, on PostgreSQL and with several replicas."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from shared.settings import BrokerSettings
from tests.order_rail import order_rail, report_of
from tests.rail import Rail
from tests.support import SERVICES, eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]  # the first run builds the image

PROJECT = Path(__file__).parents[2]
PORTS = {**{name: f"{name}_PORT".upper() for name in SERVICES}, "control_room": "CONTROL_ROOM_PORT",
         "front_door": "FRONT_DOOR_PORT", "maildev": "MAILDEV_PORT", "rabbitmq": "RABBITMQ_PORT",
         "management": "RABBITMQ_MANAGEMENT_PORT"}  # fmt: skip
OPERATOR_TOKEN = "a token of the test's own"
REPLICAS = {"order_service": 2, "payment_service": 3}
ORDER = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
NAMED = ("front_door", "control_room")
"""What is started by name at first: it brings all the others, since each service brings what it needs."""

# Places an order at one replica of the order service and follows it at the other: prints the types of its events as
# the stream sends them, and as the timeline shows them afterwards.
FOLLOW_AT_THE_OTHER_REPLICA = """
import httpx, json, socket
found = socket.getaddrinfo("order_service", 8000, type=socket.SOCK_STREAM)
here, there = sorted({f"http://{address[0]}:8000" for *_, address in found})
for placed_at, followed_at in [(here, there), (there, here)]:
    body = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
    order = httpx.post(f"{placed_at}/orders", json=body).raise_for_status().json()
    with httpx.stream("GET", f"{followed_at}/orders/{order['order_id']}/events", timeout=20) as events:
        data = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]
    timeline = httpx.get(f"{followed_at}/orders/{order['order_id']}").raise_for_status().json()["timeline"]
    print(json.dumps([[event["type"] for event in data], [entry["type"] for entry in timeline]]))
"""

# Controls a service as the control room does: where it knows the replicas by name. Prints what the service then says.
CONTROL_A_SERVICE = """
import asyncio, sys
from control_room.operations.addresses import find_system
from control_room.dashboard.process_control import Action
from control_room.dashboard.process_control.exchange import ExchangeControl
from control_room.dashboard.snapshots.observer import watching

async def pull(service, action):
    async with watching(find_system(None)) as observer:
        control = ExchangeControl(observer.services, observer.management)
        await control.apply(Action(action), service)
        print(control.state(service))

asyncio.run(pull(*sys.argv[1:]))
"""


class Stack:
    """The compose file in `directory`, run as a project of its own on free ports, as if there were no `.env`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.project = f"order-rail-test-{uuid.uuid4().hex[:8]}"
        self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.operator_token = OPERATOR_TOKEN
        self.variables = {
            "COMPOSE_FILE": str(directory / "docker-compose.yml"),
            "COMPOSE_ENV_FILES": os.devnull,
            "COMPOSE_PROJECT_NAME": self.project,
            **{PORTS[name]: str(port) for name, port in self._ports.items()},
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "RETRY_DELAYS_SECONDS": "0.5,1,1.5",  # the tour waits for an order to use up all of its attempts
        }
        self._environment = {**os.environ, **self.variables}

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._ports[service]}"

    async def compose(self, *arguments: str) -> str:
        """`docker compose` with these arguments; its output. Fails the test if it fails."""
        command = ("docker", "compose", *arguments)
        return await _run(*command, environment=self._environment, directory=self._directory)

    async def up(self, *services: str, replicas: Mapping[str, int] | None = None, build: bool = False) -> None:
        """Start what does not run of these services, or of all, and wait until they are healthy.

        `build`: the images first. A later one with it would make each container anew that is older than its image.
        """
        scale = [f"--scale={service}={count}" for service, count in (replicas or {}).items()]
        try:
            options = ["--build"] if build else []
            await self.compose("up", *options, "--wait", "--wait-timeout", "300", *scale, *services)
        except AssertionError:
            print(await self.compose("logs", "--no-color", "--tail", "20"))
            raise

    async def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of these services' containers; of all without an argument."""
        ids = (await self.compose("ps", "--all", "--quiet", *services)).split()
        found: list[dict[str, Any]] = json.loads(await _run("docker", "inspect", *ids))
        return found

    async def control(self, service: str, action: str) -> str:
        """What the service says afterwards."""
        python = ("run", "--rm", "-T", "--entrypoint", "python", "order-rail")
        return (await self.compose(*python, "-c", CONTROL_A_SERVICE, service, action)).strip()

    async def in_postgres(self, script: str, given: bytes = b"") -> bytes:
        """What a script of `deploy/postgres` writes, run as the documentation says."""
        process = await asyncio.create_subprocess_exec(
            "docker", "compose", "exec", "-T", "postgres", "bash", f"/order-rail/{script}",
            cwd=self._directory, env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate(given)
        assert process.returncode == 0, errors.decode()
        return output

    async def remove(self) -> None:
        """Leave nothing behind: containers, volumes, network, image."""
        await self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
        await _run("docker", "image", "rm", "--force", f"{self.project}-image", f"{self.project}-front_door")


def strict_clone(directory: Path) -> Path:
    """The project in `directory`, as `git clone` leaves it under a umask of 077: nobody but its owner can read it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if (PROJECT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, directory / name)
    for path in directory.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return directory


async def _run(*command: str, environment: Mapping[str, str] | None = None, directory: Path = PROJECT) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, f"{' '.join(command)}:\n{output.decode()}\n{errors.decode()}"
    return output.decode()


@pytest.fixture(scope="module")
def engine() -> None:
    """Skip where no container engine answers; fail there if REQUIRE_DOCKER is set."""
    try:
        for command in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(command, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("REQUIRE_DOCKER"):
            pytest.fail(f"REQUIRE_DOCKER is set, and no container engine answers: {error}")
        pytest.skip(f"no container engine answers: {error}")


@pytest_asyncio.fixture(scope="module")
async def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    running = Stack(strict_clone(tmp_path_factory.mktemp("clone")))
    try:
        await running.up(*NAMED, build=True)
        yield running
    finally:
        await running.remove()


@pytest_asyncio.fixture
async def rail(stack: Stack) -> AsyncIterator[Rail]:
    client = Rail(stack)
    async with client.http:
        await client.is_ready()
        yield client


async def test_the_example_of_an_env_file_holds_the_defaults(engine: None) -> None:
    rendered = [
        await _run("docker", "compose", "--env-file", file, "config", environment={"PATH": os.environ["PATH"]})
        for file in (".env.example", os.devnull)
    ]
    assert rendered[0] == rendered[1]


async def test_the_small_system_is_without_control_room_and_maildev_and_writes_mail_to_the_log(engine: None) -> None:
    files = ("--env-file", os.devnull, "--file", "docker-compose.yml", "--file", "deploy/small.yml")
    rendered = await _run("docker", "compose", *files, "config", "--format", "json")
    services = json.loads(rendered)["services"]
    assert services.keys() == {*SERVICES, "front_door", "migrations", "topology", "rabbitmq", "postgres"}
    assert services["notification_service"]["environment"]["EMAIL_URL"] == ""


async def test_the_cluster_is_three_equal_nodes_that_every_client_knows(engine: None) -> None:
    def rendered(*files: str) -> Any:
        command = ("docker", "compose", "--env-file", os.devnull, *(f"--file={file}" for file in files), "config")
        return _run(*command, "--format", "json")

    single = json.loads(await rendered("docker-compose.yml"))["services"]
    services = json.loads(await rendered("docker-compose.yml", "deploy/compose.cluster.yml"))["services"]
    nodes = [services.pop(name) for name in ("rabbitmq", "rabbitmq_2", "rabbitmq_3")]
    hosts = [node.pop("hostname") for node in nodes]
    named = re.findall(r"nodes\.\d = rabbit@(\w+)", (PROJECT / "deploy/rabbitmq/cluster.conf").read_text())
    assert hosts == named == ["rabbitmq", "rabbitmq_2", "rabbitmq_3"]
    for own in ("ports", "volumes"):
        for node in (*nodes, single["rabbitmq"]):
            node.pop(own, None)
    assert nodes[0] == nodes[1] == nodes[2]
    alone = {name: value for name, value in single["rabbitmq"].items() if name not in ("hostname", "entrypoint")}
    alone["environment"]["NODES_COOKIE"] = "order_rail"
    alone["environment"]["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += " -kernel net_ticktime 10"
    assert alone == {name: value for name, value in nodes[0].items() if name != "entrypoint"}

    assert services.keys() == single.keys() - {"rabbitmq"}
    for name, service in services.items():
        if url := service.get("environment", {}).get("RABBITMQ_URL"):
            settings = BrokerSettings(rabbitmq_url=url)
            assert [node.host for node in settings.amqp] == hosts, name
            (before,) = BrokerSettings(rabbitmq_url=single[name]["environment"]["RABBITMQ_URL"]).amqp
            assert {(node.user, node.password) for node in settings.amqp} == {(before.user, before.password)}


async def test_an_order_is_confirmed_within_two_seconds_and_mailed(stack: Stack, rail: Rail) -> None:
    await rail.place()
    await rail.all_final()  # the first order of a new system also pays for opening connections
    order_id = await rail.place()

    async def look() -> list[dict[str, Any]]:
        assert (await rail.order(order_id))["status"] == "confirmed"
        mails = (await rail.http.get(f"{stack.url('maildev')}/email")).raise_for_status().json()
        return [mail for mail in mails if mail["headers"].get("x-order-id") == order_id]

    (mail,) = await eventually(look, 2, "the order to be confirmed and mailed")
    assert mail["to"][0]["address"] == "ada@example.com"


async def test_a_job_has_made_the_tables_and_ended(stack: Stack) -> None:
    (job,) = await stack.containers("migrations")
    assert (job["State"]["Status"], job["State"]["ExitCode"], job["RestartCount"]) == ("exited", 0, 0)
    log = await stack.compose("logs", "--no-color", "migrations")
    assert all(f"{name}_0001" in log for name in (*SERVICES, "gateway")), log


async def test_no_container_of_ours_runs_as_root_or_can_be_reached_from_outside(stack: Stack) -> None:
    containers = await stack.containers()
    ours = [container for container in containers if container["Config"]["Image"] == f"{stack.project}-image"]
    assert {container["Config"]["User"] for container in ours} == {"order_rail"}
    (front_door,) = await stack.containers("front_door")
    assert front_door["Config"]["User"] == "haproxy"
    bindings = [binding for each in containers for binding in each["HostConfig"]["PortBindings"].values()]
    assert {binding["HostIp"] for published in bindings for binding in published} == {"127.0.0.1"}


async def test_no_log_grows_without_limit(stack: Stack) -> None:
    logs = {container["Name"]: container["HostConfig"]["LogConfig"] for container in await stack.containers()}
    assert {"max-size", "max-file"} <= set.intersection(*(set(log["Config"]) for log in logs.values())), logs


async def test_rabbitmq_logs_no_line_for_each_call_and_one_for_each_login_that_fails(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url("management"), trust_env=False) as http:
        assert (await http.get("/api/whoami", auth=("order_rail", "order_rail"))).is_success
        assert (await http.get("/api/whoami", auth=("mallory", "x"))).status_code == httpx.codes.UNAUTHORIZED
    log = await eventually(lambda: _log_with(stack, "rabbitmq", "'mallory'"), 5, "the login that failed to be logged")
    assert "User 'order_rail' authenticated successfully" not in log


async def test_rabbitmq_holds_publishers_back_before_its_container_is_full(stack: Stack) -> None:
    (container,) = await stack.containers("rabbitmq")
    (watermark,) = re.findall(r"high watermark set to .*?\((\d+) bytes\)", await stack.compose("logs", "rabbitmq"))
    assert int(watermark) < 0.7 * container["HostConfig"]["Memory"]


async def _log_with(stack: Stack, service: str, words: str) -> str:
    log = await stack.compose("logs", "--no-color", service)
    return log if words in log else ""


async def test_the_tour_is_right(stack: Stack) -> None:
    assert "All of it held." in await stack.compose("run", "--rm", "-T", "order-rail", "tour")


async def test_the_control_room_sees_that_everything_runs(stack: Stack, rail: Rail) -> None:
    assert (await rail.http.get(f"{stack.url('control_room')}/readyz")).json() == {"status": "ok"}
    page = await rail.http.get(f"{stack.url('control_room')}/")
    assert "Order Rail: control room" in page.raise_for_status().text


async def test_the_image_contains_the_shop(stack: Stack, rail: Rail) -> None:
    for path, words in (("/", "What would you like?"), ("/shop/shop.js", "import"), ("/shop/shop.css", ":root")):
        assert words in (await rail.http.get(f"{stack.url('order_service')}{path}")).raise_for_status().text


async def test_services_are_scaled_up_and_down_under_load_without_an_error(stack: Stack, rail: Rail) -> None:
    over = asyncio.Event()

    async def keep_asking() -> None:
        """Some 20 times a second, on connections that are kept; fails where one breaks, or at an error."""
        while not over.is_set():
            order = await rail.http.post(f"{stack.url('order_service')}/orders", json=ORDER)
            assert order.status_code == 202, order.text
            payment = await rail.http.get(f"{stack.url('payment_service')}/payments/{order.json()['order_id']}")
            assert payment.status_code in (200, 404), payment.text  # 404: there is none yet
            await asyncio.sleep(0.05)

    await stack.up()  # what another test has altered is made anew here, not under load
    async with asyncio.TaskGroup() as load:
        for _ in range(4):
            load.create_task(keep_asking())
        for replicas in (REPLICAS, dict.fromkeys(REPLICAS, 1), REPLICAS):
            await stack.up(replicas=replicas)
            assert len(await stack.containers(*replicas)) == sum(replicas.values())
        over.set()


async def test_replicas_share_the_work_and_charge_once(stack: Stack, rail: Rail) -> None:
    await stack.up(replicas=REPLICAS)
    await rail.place_many(["tok_visa", "tok_declined", "tok_timeout"] * 20)
    assert len(rail.accepted) == 60
    await rail.reconcile()


async def test_an_order_placed_at_one_replica_can_be_followed_at_the_other(stack: Stack) -> None:
    await stack.up(replicas=REPLICAS)
    output = await stack.compose(
        "run", "--rm", "-T", "--entrypoint", "python", "order-rail", "-c", FOLLOW_AT_THE_OTHER_REPLICA
    )
    assert len(output.splitlines()) == 2
    for arrived, shown in map(json.loads, output.splitlines()):
        assert arrived[0] == "order.placed.v1"  # the others may overtake each other
        assert {"payment.succeeded.v1", "notification.delivered.v1"} <= set(arrived)
        assert shown[:2] == ["order.placed.v1", "payment.succeeded.v1"]
        assert set(shown[2:]) == {"notification.delivered.v1"}


async def test_orders_are_taken_while_rabbitmq_is_stopped_and_confirmed_when_it_is_back(
    stack: Stack, rail: Rail
) -> None:
    started_at = [container["State"]["StartedAt"] for container in await stack.containers(*SERVICES)]
    await stack.compose("stop", "rabbitmq")
    await rail.place_many(["tok_visa"] * 5)
    assert set((await rail.statuses()).values()) == {"placed"}
    assert len(rail.accepted) == 5
    await stack.compose("start", "rabbitmq")
    await rail.reconcile()
    assert [container["State"]["StartedAt"] for container in await stack.containers(*SERVICES)] == started_at


async def test_services_get_over_a_restart_of_postgresql(stack: Stack, rail: Rail) -> None:
    await rail.place_many(["tok_visa"] * 20)
    await stack.compose("restart", "postgres")
    await rail.reconcile()


async def test_chaos_breaks_these_containers_and_they_go_on_afterwards(
    stack: Stack, rail: Rail, tmp_path: Path
) -> None:
    await stack.up()
    run = ("--minutes", "0.1", "--rate", "10", "--recover-within-seconds", "40", "--run-directory", str(tmp_path))
    ended = await order_rail("chaos", "--compose", "--faults", "kill", *run, **stack.variables)
    assert ended.status == 0, ended.output
    report = report_of(tmp_path)
    (killed,) = report["injections"]
    assert killed["evidence"]
    assert report["audit"]["counts"]["accepted"] == report["closed"] > 0
    assert all(container["State"]["Running"] for container in await stack.containers(*SERVICES))


async def test_what_is_killed_in_its_container_comes_back_and_nothing_is_lost(stack: Stack, rail: Rail) -> None:
    await rail.place_many(["tok_visa"] * 20)
    before = await _restarts(stack)
    await asyncio.gather(*map(_kill_in, before))

    async def are_back() -> bool:
        now = await _restarts(stack)
        return all(now[name] > count for name, count in before.items())

    await eventually(are_back, 60, "each container to be started again")
    await rail.is_ready()
    await rail.place()
    await rail.reconcile()


async def _kill_in(container: str) -> None:
    """All that runs in it but its init: SIGKILL, as `kill -9` sends it."""
    command = ("docker", "exec", container, "sh", "-c", "kill -9 -1")
    killing = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await killing.wait()


async def _restarts(stack: Stack) -> dict[str, int]:
    """How often the engine has started the program of each container again; without the job, which has ended."""
    containers = await stack.containers()
    job = {each["Id"] for each in await stack.containers("migrations")}
    return {each["Name"].lstrip("/"): each["RestartCount"] for each in containers if each["Id"] not in job}


async def test_every_replica_of_a_service_can_be_paused_and_killed_through_the_broker(stack: Stack, rail: Rail) -> None:
    await stack.up(replicas=REPLICAS)
    assert await stack.control("payment_service", "pause") == "paused"
    await rail.place_many(["tok_visa"] * 20)
    assert set((await rail.statuses()).values()) == {"placed"}
    assert await stack.control("payment_service", "resume") == "running"
    await rail.all_final()

    before = [container["RestartCount"] for container in await stack.containers("payment_service")]
    await stack.control("payment_service", "kill")

    async def are_back() -> bool:
        containers = await stack.containers("payment_service")
        again = [container["RestartCount"] for container in containers if container["State"]["Running"]]
        return again == [count + 1 for count in before]

    await eventually(are_back, 30, "each of its containers to be started again")
    await rail.place_many(["tok_visa"] * 20)
    await rail.reconcile()


async def test_a_backup_of_a_full_rail_is_restored_into_new_volumes(stack: Stack, rail: Rail) -> None:
    await stack.control("payment_service", "pause")
    in_backup = await rail.place_many(["tok_visa", "tok_declined"] * 5)
    backup = await stack.in_postgres("backup.sh")
    await rail.place_many(["tok_visa"] * 5)
    # `run --rm` may still be removing its container.
    await stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    await stack.compose("up", "--wait", "postgres")
    assert b"Restored order_service payment_service" in await stack.in_postgres("restore.sh", backup)
    await stack.up(*NAMED)
    rail.accepted = in_backup
    await rail.reconcile()
    audit = await stack.compose("run", "--rm", "-T", "order-rail", "audit", "--settle-seconds", "0")
    assert "Restored to " in audit


async def test_services_stop_with_status_0(stack: Stack, rail: Rail) -> None:
    """Last: afterwards nothing runs that could be tested."""
    await rail.place_many(["tok_visa"] * 20)
    await stack.compose("stop", *SERVICES)
    assert {container["State"]["ExitCode"] for container in await stack.containers(*SERVICES)} == {0}
    with pytest.raises(httpx.HTTPError):
        await rail.place()

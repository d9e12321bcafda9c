"""The native launcher: a broker, its topology and the services, as processes of this machine."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import structlog
from pydantic import ValidationError

from control_room.background import running
from control_room.launcher import LaunchError
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.broker_in_use import until_nobody_consumes
from control_room.launcher.children import tail
from control_room.launcher.cluster import PrivateCluster
from control_room.launcher.ports import CONTROL_ROOM, MANAGEMENT, RABBITMQ, Ports, check_free, unused_ports
from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.run_directory import RunDirectory
from control_room.operations.databases import (
    DatabaseError,
    database_values,
    database_variables,
    databases_of,
    upgrade,
)
from control_room.operations.environment_file import Unwritable, write_variables
from shared.contract import ServiceContract, service, services
from shared.http import address
from shared.management import ManagementError
from shared.settings import BrokerSettings, checked_token, wrong_variables
from shared.topology.provision import TopologyDiffers, apply, keep
from shared.waiting import poll

READY_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05
BROKER_WATCH_SECONDS = 0.5

logger = structlog.get_logger(__name__)


Broker = PrivateBroker | PrivateCluster


class System:
    """A running system. `broker` is None if RABBITMQ_URL names one; `control_room_url` is empty without a page."""

    def __init__(
        self,
        run: RunDirectory,
        ports: Ports,
        broker: Broker | None,
        settings: BrokerSettings,
        environment: Mapping[str, str],
    ) -> None:
        self.run, self.ports, self.broker, self.broker_settings = run, ports, broker, settings
        self.operator_token = environment.get("OPERATOR_TOKEN") or run.operator_token()
        self.control_room_url = ""
        self.http_host = _http_host(environment)
        self.processes = {contract.name: self._process(contract, environment) for contract in services()}

    def url(self, name: str) -> str:
        """The base URL of a service."""
        return self.url_of(self.ports[service(name).variable("PORT")])

    def url_of(self, port: int) -> str:
        """The base URL of a server of this system that listens on a port."""
        return address.url_of(self.http_host, port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of `.run/environment`: all addresses, and the ids of the processes."""
        pids = {service(name).variable("PID"): str(process.pid) for name, process in self.processes.items()}
        nodes = self.broker.nodes if self.broker is not None else ()
        for number, node in enumerate(nodes, 1):
            if node.is_running:
                pids["RABBITMQ_PID" if len(nodes) == 1 else f"RABBITMQ_{number}_PID"] = str(node.pid)
        return {
            **{contract.variable("URL"): self.url(contract.name) for contract in services()},
            **self._of_every_service(),
            **({"CONTROL_ROOM_URL": self.control_room_url} if self.control_room_url else {}),
            **pids,
        }

    async def start(self) -> None:
        """Start the services, wait until each is ready, and start again any that dies from now on. LaunchError."""
        for process in self.processes.values():
            await process.start()
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for name in self.processes:
                await self._until_ready(client, name)
        for process in self.processes.values():
            process.keep_alive()

    async def stop(self) -> None:
        """Stop the services, all at the same time."""
        self.run.environment_file.unlink(missing_ok=True)
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        self.run.environment_file.unlink(missing_ok=True)  # a process that was starting again has written it

    def write_environment(self) -> None:
        """Write the present addresses and process ids to the run directory. Raises Unwritable, OSError."""
        write_variables(self.run.environment_file, self.environment)

    def _process(self, contract: ServiceContract, environment: Mapping[str, str]) -> SupervisedProcess:
        databases = database_values(contract, environment, self.run.sqlite_url)
        http = {"HTTP_HOST": self.http_host, "HTTP_PORT": str(self.ports[contract.variable("PORT")])}
        variables = {**environment, **databases, **http, **self._of_every_service(), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", contract.name]
        return SupervisedProcess(contract.name, command, variables, self.run.log(contract.name), self.write_environment)

    def _of_every_service(self) -> dict[str, str]:
        return {
            "RABBITMQ_URL": self.broker_settings.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.broker_settings.management_url,
            "OPERATOR_TOKEN": self.operator_token,
            "EVENTS_KEPT_HOURS": str(self.broker_settings.events_kept_hours),
        }

    async def _until_ready(self, client: httpx.AsyncClient, name: str) -> None:
        async def problem() -> str:
            self._check_alive()
            return await _unready(client, self.url(name))

        last = await poll(
            problem, until=lambda text: not text, within_seconds=READY_TIMEOUT_SECONDS, every_seconds=POLL_SECONDS
        )
        if last:
            raise self._failure(name, f"was not ready within {READY_TIMEOUT_SECONDS:g} s: {last}")

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.exit_status is not None:
                raise self._failure(name, f"ended with status {process.exit_status} while it started")

    def _failure(self, name: str, problem: str) -> LaunchError:
        return LaunchError(f"{name} {problem}\n{tail(self.run.log(name))}")


async def _unready(client: httpx.AsyncClient, url: str) -> str:
    """Why a service is not ready; empty if it is."""
    try:
        answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        return f"{url} does not answer ({type(error).__name__})"
    return "" if answer.status_code == httpx.codes.OK else answer.text


def private_settings() -> dict[str, str]:
    """Variables for `launch` that make a system use nothing outside, whatever this process's environment names."""
    databases = [variable for contract in services() for variable in database_variables(contract)]
    outside = [variable for contract in services() for variable in contract.outside]
    return dict.fromkeys(("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", *databases, *outside), "")


Page = Callable[[System], AbstractAsyncContextManager[None]]
"""Serves the control room's page for a system, at its `control_room_url`, while the block runs."""

Progress = Callable[[str], None]
"""Takes each step of a start, in a sentence."""


@asynccontextmanager
async def launch(
    run_directory: Path,
    ports: Ports | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda _: None,
    page: Page | None = None,
    nodes: int = 1,
) -> AsyncIterator[System]:
    """Run the whole system while the block runs; afterwards nothing of it runs.

    `ports`: unused ones if None. `environment` is added to this process's for the services. With `page` there is a
    control room. `nodes`: of the private broker. Raises LaunchError, also if a system runs in `run_directory` already.
    """
    run, variables, ports = RunDirectory(run_directory), {**os.environ, **(environment or {})}, ports or unused_ports()
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(run.locked())
            settings = _checked_settings(run, ports, variables, with_page=page is not None)
            if page is not None:
                variables["CONTROL_ROOM_URL"] = address.url_of(_http_host(variables), ports[CONTROL_ROOM])
            run.environment_file.unlink(missing_ok=True)  # of a launcher that was killed
            broker = None
            if variables.get("RABBITMQ_URL"):
                if nodes > 1:
                    raise LaunchError("--nodes is for a RabbitMQ of its own, and RABBITMQ_URL names one that runs")
                await until_nobody_consumes(settings, progress)
            else:
                broker = await _start_broker(stack, run, ports, progress, nodes)
                own = {"rabbitmq_url": broker.amqp_url(), "rabbitmq_management_url": broker.management_url}
                settings = settings.model_copy(update=own)
            progress("Applying the topology")
            await apply(settings)
            await stack.enter_async_context(running(keep(settings), "topology keeper"))
            progress("Upgrading the databases")
            await upgrade(databases_of(services(), variables, run.sqlite_url), report=progress)
            system = System(run, ports, broker, settings, variables)
            await _start(stack, system, progress, page)
        except (ManagementError, TopologyDiffers, DatabaseError, Unwritable) as error:
            raise LaunchError(str(error)) from error
        yield system


def _checked_settings(
    run: RunDirectory, ports: Ports, variables: Mapping[str, str], *, with_page: bool
) -> BrokerSettings:
    """The broker's settings as the services will read them. LaunchError for what can't work, before anything starts."""
    try:
        settings = BrokerSettings.of(variables)
        checked_token(variables.get("OPERATOR_TOKEN", ""))
    except ValidationError as error:
        raise LaunchError(wrong_variables(error)) from None
    except ValueError as error:
        raise LaunchError(f"OPERATOR_TOKEN: {error}") from None
    if "?" in str(run.path):
        raise LaunchError(f"{run.path} can't hold a database: in its URL the ? would end the path; choose another name")
    servers = [*(contract.variable("PORT") for contract in services()), *([CONTROL_ROOM] if with_page else [])]
    check_free(ports, servers, _http_host(variables))
    return settings


async def _start_broker(
    stack: AsyncExitStack, run: RunDirectory, ports: Ports, progress: Progress, nodes: int
) -> Broker:
    check_free(ports, (RABBITMQ, MANAGEMENT))
    directory = run.path / "rabbitmq"
    _check_nodes(directory, nodes)
    if nodes == 1:
        progress("Starting RabbitMQ")
        return await stack.enter_async_context(PrivateBroker(directory, ports[RABBITMQ], ports[MANAGEMENT]))
    progress(f"Starting RabbitMQ, {nodes} nodes")
    return await stack.enter_async_context(PrivateCluster(directory, nodes, ports[RABBITMQ], ports[MANAGEMENT]))


def _check_nodes(directory: Path, nodes: int) -> None:
    """Refuse another number of nodes than before: what waits in the queues of the others would be left behind."""
    before = len(list(directory.glob("node-*"))) or int((directory / "data").exists())
    if before not in (0, nodes):
        raise LaunchError(
            f"{directory} holds the data of {before} RabbitMQ node{'s' if before > 1 else ''}. Start it with "
            f"`--nodes {before}`, or choose another place with --run-directory."
        )


async def _start(stack: AsyncExitStack, system: System, progress: Progress, page: Page | None) -> None:
    progress("Starting the services")
    stack.push_async_callback(system.stop)
    await system.start()
    if system.broker is not None:
        for node in system.broker.nodes:
            watch = _restart_if_dead(node, system.write_environment)
            await stack.enter_async_context(running(watch, "broker watch"))
    if page is not None:
        progress("Opening the control room")
        system.control_room_url = system.url_of(system.ports[CONTROL_ROOM])
        await stack.enter_async_context(page(system))
    system.write_environment()


def _http_host(variables: Mapping[str, str]) -> str:
    return variables.get("HTTP_HOST") or "127.0.0.1"


async def _restart_if_dead(broker: PrivateBroker, on_restart: Callable[[], None]) -> None:
    """Start the node again whenever it has died by itself; not after a call of `stop` or `kill`."""
    while True:
        await asyncio.sleep(BROKER_WATCH_SECONDS)
        if not broker.has_died:
            continue
        try:
            await broker.start()
        except BrokerError as error:
            logger.warning("broker.not_restarted", error=str(error))
        else:
            logger.warning("broker.restarted", pid=broker.pid)
            on_restart()

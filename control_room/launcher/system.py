"""The native launcher: a broker, its topology and the three services, as processes of this machine."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import httpx
import structlog
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_room.background import running
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.broker_in_use import BrokerInUse, until_nobody_consumes
from control_room.launcher.installed import NotInstalledError
from control_room.launcher.logs import tail
from control_room.launcher.ports import free_ports, is_free
from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.run_directory import AlreadyRunningError, RunDirectory
from control_room.operations.environment_file import Unwritable
from control_room.operations.roles import NOTIFICATIONS
from shared.contract import DatabaseContract, ServiceContract, services
from shared.http import address
from shared.management import ManagementError
from shared.settings import BrokerSettings, checked_token
from shared.topology.provision import TopologyDiffers, apply, keep

SERVICES = tuple(contract.name for contract in services())
READY_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05
BROKER_WATCH_SECONDS = 0.5
WENT_WRONG = (
    AlreadyRunningError, NotInstalledError, BrokerError, BrokerInUse, ManagementError, TopologyDiffers, Unwritable,
)  # fmt: skip

logger = structlog.get_logger(__name__)


class LaunchError(Exception):
    """The system could not be started; the message says what to do. Nothing of it runs."""


class Ports(BaseSettings):
    """The ports of one system, read from the environment; the defaults are the documented ones."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)

    order_service_port: int = Field(8000, ge=1, le=65535)
    payment_service_port: int = Field(8001, ge=1, le=65535)
    notification_service_port: int = Field(8002, ge=1, le=65535)
    rabbitmq_port: int = Field(5672, ge=1, le=65535)
    rabbitmq_management_port: int = Field(15672, ge=1, le=65535)
    control_room_port: int = Field(8080, ge=1, le=65535)

    @classmethod
    def free(cls) -> Self:
        """Ports that nothing listens on."""
        return cls.model_validate(dict(zip(cls.model_fields, free_ports(len(cls.model_fields)), strict=True)))

    def check(self, names: list[str], host: str = "127.0.0.1") -> None:
        """Raises LaunchError, naming the setting, if one of these is taken, or can't be had at `host`."""
        try:
            taken = [name for name in names if not is_free(getattr(self, name), host)]
        except OSError as error:
            raise LaunchError(f"HTTP_HOST: nothing can listen at {host} here: {address.reason(error)}") from None
        if taken:
            raise LaunchError("\n".join(self._sentence(name) for name in taken))

    def _sentence(self, name: str) -> str:
        use = name.removesuffix("_port").replace("_", " ").replace("rabbitmq", "RabbitMQ")
        hint = ", or RABBITMQ_URL to use a broker that runs already" if name.startswith("rabbitmq") else ""
        return f"port {getattr(self, name)}, for the {use}, is taken; set {name.upper()} to another one{hint}"


class System:
    """A running Order Rail. `broker` is None where RABBITMQ_URL names one that isn't ours.

    `control_room_url` is empty where nobody watches.
    """

    def __init__(
        self,
        run: RunDirectory,
        ports: Ports,
        broker: PrivateBroker | None,
        settings: BrokerSettings,
        environment: Mapping[str, str],
    ) -> None:
        self.run, self.ports, self.broker, self.broker_settings = run, ports, broker, settings
        self.operator_token = environment.get("OPERATOR_TOKEN") or secrets.token_urlsafe(24)
        self.control_room_url = ""
        self.http_host = _http_host(environment)
        self.processes = {each.name: self._process(each, environment) for each in services()}

    def url(self, service: str) -> str:
        """Where a service answers HTTP."""
        return self.url_of(self._port(service))

    @property
    def environment(self) -> dict[str, str]:
        """What `environment` in the run directory says: where everything is, and the processes' ids."""
        pids = {f"{name.upper()}_PID": str(process.pid) for name, process in self.processes.items()}
        if self.broker is not None and self.broker.is_running:
            pids["RABBITMQ_PID"] = str(self.broker.pid)
        return {
            **{f"{name.upper()}_URL": self.url(name) for name in SERVICES},
            "RABBITMQ_URL": self.broker_settings.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.broker_settings.management_url,
            "OPERATOR_TOKEN": self.operator_token,
            **({"CONTROL_ROOM_URL": self.control_room_url} if self.control_room_url else {}),
            **pids,
        }

    async def start(self) -> None:
        """Start the services, wait until each is ready, and start again any that dies from now on. LaunchError."""
        for process in self.processes.values():
            await process.start()
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for name in SERVICES:
                await self._until_ready(client, name)
        for process in self.processes.values():
            process.keep_alive()

    async def stop(self) -> None:
        """Stop the services, all at the same time."""
        self.run.remove_environment()
        await asyncio.gather(*(process.stop() for process in self.processes.values()))

    def write_environment(self) -> None:
        """Say where everything is now."""
        self.run.write_environment(self.environment)

    def url_of(self, port: int) -> str:
        """Where something of this system listens."""
        return address.url_of(self.http_host, port)

    def _port(self, service: str) -> int:
        port: int = getattr(self.ports, f"{service}_port")
        return port

    def _databases(self, contract: ServiceContract, environment: Mapping[str, str]) -> dict[str, str]:
        """The URL of each database of a service, by the service's own variable; SQLite files where none is given."""
        return {
            database.variable: environment.get(variable) or f"{database.scheme}{self.run.sqlite_url(database.name)}"
            for variable, database in database_variables(contract).items()
        }

    def _process(self, contract: ServiceContract, environment: Mapping[str, str]) -> SupervisedProcess:
        name = contract.name
        own = {
            "HTTP_HOST": self.http_host,
            "HTTP_PORT": str(self._port(name)),
            **self._databases(contract, environment),
            "RABBITMQ_URL": self.broker_settings.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.broker_settings.management_url,
            "OPERATOR_TOKEN": self.operator_token,
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", name]
        return SupervisedProcess(name, command, {**environment, **own}, self.run.log(name), self.write_environment)

    async def _until_ready(self, client: httpx.AsyncClient, name: str) -> None:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_SECONDS
        while (problem := await _not_ready(client, self.url(name))) is not None:
            self._check_alive()
            if asyncio.get_running_loop().time() > deadline:
                why = f"{name} was not ready within {READY_TIMEOUT_SECONDS:g} s: {problem}"
                raise LaunchError(f"{why}\n{tail(self.run.log(name))}")
            await asyncio.sleep(POLL_SECONDS)

    def _check_alive(self) -> None:
        for name, process in self.processes.items():
            if process.exit_status is not None:
                why = f"{name} ended with status {process.exit_status} while it started"
                raise LaunchError(f"{why}\n{tail(self.run.log(name))}")


def database_variables(contract: ServiceContract) -> dict[str, DatabaseContract]:
    """The databases of a service, by the environment variable of a whole system that holds the URL.

    Each service calls its own database DATABASE_URL; so in a system that is `<SERVICE>_DATABASE_URL`.
    """
    own, *further = contract.databases
    return {contract.variable(own.variable): own, **{database.variable: database for database in further}}


def private_settings() -> dict[str, str]:
    """Variables for `launch` that make a system use nothing outside, whatever this process's environment says."""
    databases = [variable for contract in services() for variable in database_variables(contract)]
    channels = [f"{queue.name}_URL".upper() for queue in NOTIFICATIONS.queues]
    return dict.fromkeys(("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL", *databases, *channels), "")


Page = Callable[["System"], AbstractAsyncContextManager[None]]
"""What serves the control room's page for a system, at its `control_room_url`, while the block runs."""


@asynccontextmanager
async def launch(
    run_directory: Path,
    ports: Ports | None = None,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    page: Page | None = None,
) -> AsyncIterator[System]:
    """Run the whole system while the block runs; afterwards nothing of it runs.

    Without `ports` it takes free ones. `environment` is added to ours for the services. `progress` is told each
    step in a sentence. With `page` there is a control room. Raises LaunchError; also if a system runs in
    `run_directory` already.
    """
    variables = {**os.environ, **(environment or {})}
    async with AsyncExitStack() as stack:
        try:
            system = await _start(stack, RunDirectory(run_directory), ports or Ports.free(), variables, progress, page)
        except WENT_WRONG as error:
            raise LaunchError(str(error)) from error
        yield system


async def _start(
    stack: AsyncExitStack,
    run: RunDirectory,
    ports: Ports,
    variables: Mapping[str, str],
    progress: Callable[[str], None],
    page: Page | None,
) -> System:
    if "?" in str(run.path):
        raise LaunchError(f"{run.path} can't hold a database: in its URL the ? would end the path; choose another name")
    stack.enter_context(run.locked())
    run.remove_environment()  # of a launcher that was killed
    settings = _broker_settings(variables)
    _check_token(variables)
    ours = [f"{service}_port" for service in SERVICES] + (["control_room_port"] if page else [])
    ports.check(ours, _http_host(variables))
    broker = None if variables.get("RABBITMQ_URL") else await _start_broker(stack, run, ports, progress)
    if broker is not None:
        own = {"rabbitmq_url": broker.amqp_url(), "rabbitmq_management_url": broker.management_url}
        settings = settings.model_copy(update=own)
    if broker is None:
        await until_nobody_consumes(settings, progress)
    progress("Applying the topology")
    await apply(settings)
    await stack.enter_async_context(running(keep(settings), "topology keeper"))
    system = System(run, ports, broker, settings, variables)
    progress("Starting the services")
    stack.callback(run.remove_environment)  # once more after the stop: a process may have been coming back
    stack.push_async_callback(system.stop)
    await system.start()
    if broker is not None:
        await stack.enter_async_context(running(_revive(broker, system.write_environment), "broker watch"))
    if page is not None:
        progress("Opening the control room")
        system.control_room_url = system.url_of(ports.control_room_port)
        await stack.enter_async_context(page(system))
    system.write_environment()
    return system


async def _start_broker(
    stack: AsyncExitStack, run: RunDirectory, ports: Ports, progress: Callable[[str], None]
) -> PrivateBroker:
    ports.check(["rabbitmq_port", "rabbitmq_management_port"])
    progress("Starting RabbitMQ")
    broker = PrivateBroker(run.path / "rabbitmq", ports.rabbitmq_port, ports.rabbitmq_management_port)
    return await stack.enter_async_context(broker)


def _broker_settings(variables: Mapping[str, str]) -> BrokerSettings:
    """The broker's settings as the services will read them. LaunchError names each variable that is wrong."""
    given = {field: variables.get(field.upper()) for field in BrokerSettings.model_fields}
    try:
        return BrokerSettings.model_validate({field: value for field, value in given.items() if value})
    except ValidationError as error:
        problems = (f"{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in error.errors())
        raise LaunchError("\n".join(problems)) from None


def _http_host(variables: Mapping[str, str]) -> str:
    return variables.get("HTTP_HOST") or "127.0.0.1"


def _check_token(variables: Mapping[str, str]) -> None:
    try:
        checked_token(variables.get("OPERATOR_TOKEN", ""))
    except ValueError as error:
        raise LaunchError(f"OPERATOR_TOKEN: {error}") from None


async def _revive(broker: PrivateBroker, on_restart: Callable[[], None]) -> None:
    """Start the node again when it has died by itself; not when somebody stopped it through `broker`."""
    while True:
        await asyncio.sleep(BROKER_WATCH_SECONDS)
        if not broker.has_died:
            continue
        try:
            await broker.start()
        except BrokerError as error:
            logger.warning("broker.not_started_again", why=str(error))
        else:
            logger.warning("broker.started_again", pid=broker.pid)
            on_restart()


async def _not_ready(client: httpx.AsyncClient, url: str) -> str | None:
    """Why a service is not ready, or None if it is."""
    try:
        answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        return f"{url} does not answer ({type(error).__name__})"
    return None if answer.status_code == httpx.codes.OK else answer.text

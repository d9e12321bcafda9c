"""Where everything is measured: one private RabbitMQ node and, if need be, one PostgreSQL server.

Each run has a virtual host, ports and databases of its own.

Nothing of a run is left when the next one begins, neither processes nor messages nor files.
"""

import asyncio
import os
import secrets
import shutil
import signal
import sys
import time
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.contenders import Contender, Program
from benchmarks.databases import POSTGRESQL, SQLITE, new_server, path_of, server_databases, sqlite_files
from benchmarks.peers.shop import create_tables
from benchmarks.usage import busy_percent, processor_seconds, resident_bytes
from control_room.launcher.broker import PrivateBroker
from control_room.launcher.children import end, spawn, tail
from control_room.launcher.ports import free_ports
from control_room.operations.addresses import SystemAddresses
from shared.management import Management
from shared.messaging.channel import BrokerUnavailable, QueueState
from shared.messaging.connection import Connection
from shared.settings import BrokerSettings
from shared.topology import provision
from tests.postgres import PrivatePostgres

READY_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
LOOK_SECONDS, QUIET_PERCENT = 0.5, 10.0
STOP_GRACE_SECONDS = 10.0
GATEWAY = "gateway"
"""The database of the simulated payment gateway, which is no program of its own."""
MIGRATIONS = "order_service/migrations"
UPGRADE = (sys.executable, "-c", "from control_room.cli import app; app()", "database", "upgrade")
DELIVERY_LIMIT = 20
AMQP_1_0 = "rabbitmq_amqp1_0"
"""The plugin that a peer needs on RabbitMQ before version 4, which does without."""
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
OURS = ("RABBITMQ_", "DATABASE_", "GATEWAY_", "HTTP_", "ORDER_SERVICE_", "PAYMENT_", "NOTIFICATION_SERVICE_")


class MeasurementFailed(Exception):
    """A contender did not do its work, so there is nothing to measure; the message says what its log says."""


class Scene:
    """One contender set up for one run. Its programs are started one by one.

    `databases`: the URL of each program's database, and of the gateway's. `directory` holds the logs.
    """

    def __init__(
        self, contender: Contender, settings: BrokerSettings, databases: Mapping[str, str], directory: Path
    ) -> None:
        self.contender, self.settings, self.databases, self.directory = contender, settings, databases, directory
        self._programs = {program.name: program for program in contender.programs}
        self._ports = dict(zip(self._programs, free_ports(len(self._programs)), strict=True))
        self._processes: dict[str, Process] = {}
        self._operator_token = secrets.token_urlsafe()

    @property
    def url(self) -> str:
        """Where orders are placed."""
        return self.url_of(self.contender.web.name)

    @property
    def addresses(self) -> SystemAddresses:
        """Of Order Rail, for what works on a running system."""
        return SystemAddresses.of(self._environment(self.contender.web))

    def url_of(self, program: str) -> str:
        return f"http://127.0.0.1:{self._ports[program]}"

    async def upgrade_databases(self) -> None:
        """Create the tables as the checkout does. A version from before there were migrations does it at its start."""
        if not (self.contender.directory / MIGRATIONS).is_dir():
            return
        urls = {f"{name.upper()}_DATABASE_URL": url for name, url in self.databases.items()}
        environment = {**os.environ, **urls, "GATEWAY_URL": f"simulated+{self.databases[GATEWAY]}"}
        log = self.directory / "database-upgrade.log"
        upgrade = await spawn(UPGRADE, environment, log, self.contender.directory)
        if await upgrade.wait():
            raise MeasurementFailed(f"{self.contender.title}: its databases were not upgraded\n{tail(log)}")

    async def start_web(self) -> float:
        """Start what takes orders; returns the seconds until it was ready. Raises MeasurementFailed."""
        return (await self.start(self.contender.intake))[self.contender.web.name]

    async def start_workers(self) -> dict[str, float]:
        """Start the rest, all at the same time; the seconds until each was ready."""
        return await self.start(self.contender.workers)

    async def start(self, programs: Sequence[Program]) -> dict[str, float]:
        """Start these, and wait until each is ready; the seconds that each took."""
        began = time.perf_counter()
        for program in programs:
            log = self.directory / f"{program.name}.log"
            environment = self._environment(program)
            self._processes[program.name] = await spawn(program.command, environment, log, self.contender.directory)
        ready_at = await asyncio.gather(*(self._until_ready(program) for program in programs))
        return {program.name: at - began for program, at in zip(programs, ready_at, strict=True)}

    async def stop(self) -> None:
        """Stop all that runs, at the same time."""
        processes, self._processes = self._processes, {}
        await asyncio.gather(*(end(process, STOP_GRACE_SECONDS) for process in processes.values()))

    def check_alive(self) -> None:
        """Raises MeasurementFailed if a program has ended."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                log = tail(self.directory / f"{name}.log")
                raise MeasurementFailed(f"{self.contender.title}: {name} ended with {process.returncode}\n{log}")

    def has_ended(self, program: Program) -> bool:
        """Whether a program that ends by itself has. Raises MeasurementFailed if it failed."""
        status = self._processes[program.name].returncode
        if status:
            raise MeasurementFailed(
                f"{program.name} ended with {status}\n{tail(self.directory / f'{program.name}.log')}"
            )
        return status is not None

    def signal(self, program: Program, number: signal.Signals) -> None:
        """Send a signal to a program that runs."""
        self._processes[program.name].send_signal(number)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each program that runs, its child processes included."""
        return {name: resident_bytes(process.pid) for name, process in self._processes.items()}

    def processor_seconds(self) -> float:
        """Processor time so far of all programs that run, their child processes included."""
        return sum(processor_seconds(process.pid) for process in self._processes.values())

    async def queue(self, name: str) -> QueueState:
        """What waits in a queue, and how many consume it. Raises BrokerUnavailable, NotFound."""
        connection = await Connection.open(self.settings.rabbitmq_url, "benchmarks")
        try:
            return await (await connection.channel()).inspect(name)
        finally:
            await connection.close()

    def _environment(self, program: Program) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {
            **inherited,
            "RABBITMQ_URL": self.settings.rabbitmq_url,
            "RABBITMQ_MANAGEMENT_URL": self.settings.management_url,
            "DATABASE_URL": self.databases[program.database or program.name],
            "GATEWAY_URL": f"simulated+{self.databases[GATEWAY]}",
            "GATEWAY_LATENCY_SECONDS": "0",
            "LOG_FORMAT": "json",
            "OPERATOR_TOKEN": self._operator_token,
            **self.contender.variables,
            **{f"{name.upper()}_URL": self.url_of(name) for name in self._programs},
            "HTTP_PORT": str(self._ports[program.name]),
            "UVICORN_PORT": str(self._ports[program.name]),
        }

    async def _until_ready(self, program: Program) -> float:
        """When it was ready, on the clock of `time.perf_counter`."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                while not await self._is_ready(program):
                    self.check_alive()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            log = tail(self.directory / f"{program.name}.log")
            raise MeasurementFailed(f"{self.contender.title}: {program.name} was not ready in time\n{log}") from None
        return time.perf_counter()

    async def _is_ready(self, program: Program) -> bool:
        if program.ready_path and not await _answers(self.url_of(program.name) + program.ready_path):
            return False
        try:
            for name in program.declares:
                await self.queue(name)
            return all([(await self.queue(name)).consumers for name in program.consumes])
        except BrokerUnavailable:  # the queue is not there yet: some contenders declare their own
            return False


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            return (await client.get(url)).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.HTTPError:
        return False


class Stage:
    """The servers, and the folder in which scenes come and go. `postgres` is None where nothing is measured on it."""

    def __init__(self, broker: PrivateBroker, postgres: PrivatePostgres | None, directory: Path) -> None:
        self.broker, self.postgres, self._directory = broker, postgres, directory
        self.busy_percent: list[float] = []
        """How busy the machine was with other things just before each scene: none of it should be."""

    async def rabbitmq_version(self) -> str:
        """The version of the node."""
        own = {"rabbitmq_url": self.broker.amqp_url(), "rabbitmq_management_url": self.broker.management_url}
        async with Management(BrokerSettings.model_validate(own)) as management:
            return str((await management.find("overview"))["rabbitmq_version"])

    @asynccontextmanager
    async def scene(
        self, contender: Contender, database: str, quiet_seconds: float, files: Path | None = None
    ) -> AsyncIterator[Scene]:
        """A new virtual host and empty databases (or the SQLite files in the folder `files`), until the block ends."""
        self.busy_percent.append(await _until_quiet(quiet_seconds))
        name = f"{contender.name}-{uuid.uuid4().hex[:8]}"
        directory = files or self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        vhost = contender.virtual_host or name
        own = {"rabbitmq_url": self.broker.amqp_url(vhost), "rabbitmq_management_url": self.broker.management_url}
        settings = BrokerSettings.of(contender.variables, **own)
        async with AsyncExitStack() as stack:
            urls = stack.enter_context(self._databases(contender, database, directory))
            scene = Scene(contender, settings, urls, directory)
            management = await stack.enter_async_context(Management(settings))
            await _prepare(scene, management)
            stack.push_async_callback(management.delete, "vhosts", vhost)
            stack.push_async_callback(scene.stop)
            yield scene
        if files is None:
            shutil.rmtree(directory)  # kept where something failed

    def processor_seconds(self, scene: Scene) -> dict[str, float]:
        """Processor time so far of the scene's programs ("") and of each server that works for them, by its name."""
        servers = {"RabbitMQ": self.broker.pid}
        if self.postgres is not None and path_of(scene.databases[GATEWAY]) is None:
            servers["PostgreSQL"] = self.postgres.pid
        return {"": scene.processor_seconds(), **{name: processor_seconds(pid) for name, pid in servers.items()}}

    def _databases(
        self, contender: Contender, database: str, directory: Path
    ) -> AbstractContextManager[dict[str, str]]:
        names = (*(program.name for program in contender.programs if not program.database), GATEWAY)
        if database == SQLITE:
            return sqlite_files(names, directory)
        if self.postgres is None:
            raise MeasurementFailed("no PostgreSQL server was started")
        return server_databases(names, self.postgres)


async def _prepare(scene: Scene, management: Management) -> None:
    if scene.contender.is_order_rail:
        await provision.apply(scene.settings)
        await scene.upgrade_databases()
        return
    await _make_virtual_host(scene.contender, management)
    for url in scene.databases.values():
        create_tables(url)


async def _make_virtual_host(contender: Contender, management: Management) -> None:
    quorum = "quorum" if contender.quorum_by_default else "classic"
    defaults = {"default_queue_type": quorum, "defaultqueuetype": quorum}  # the newer name, and RabbitMQ 3.10's
    await management.put("vhosts", management.vhost, body=defaults)
    await management.put("permissions", management.vhost, management.user, body=EVERYTHING)
    for queue in contender.quorum_queues:
        body = {"durable": True, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}}
        await management.put("queues", management.vhost, queue, body=body)


async def _until_quiet(timeout_seconds: float) -> float:
    """Wait a while for others to leave the machine alone; how busy it was at last, in percent of all cores."""
    deadline = time.perf_counter() + timeout_seconds
    while (busy := await asyncio.to_thread(busy_percent, LOOK_SECONDS)) > QUIET_PERCENT:
        if time.perf_counter() > deadline:
            break
    return busy


@asynccontextmanager
async def set_up(directory: Path, databases: Sequence[str] = (SQLITE,)) -> AsyncIterator[Stage]:
    """Start the servers in `directory`; their data goes when the block ends.

    Raises BrokerError, NotInstalledError, PostgresNotInstalled.
    """
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(PrivateBroker(directory / "rabbitmq", plugins=[AMQP_1_0]))
        postgres = stack.enter_context(new_server(directory)) if POSTGRESQL in databases else None
        yield Stage(broker, postgres, directory)
        await broker.kill()  # nobody needs its data
    shutil.rmtree(directory / "rabbitmq")

"""A private RabbitMQ node, run from an installed `rabbitmq-server`: own data, ports, cookie and epmd, loopback only."""

import asyncio
import ssl
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Self
from urllib.parse import quote

import httpx

from control_room.launcher import LaunchError
from control_room.launcher.children import end, freeze, kill, spawn, tail, thaw
from control_room.launcher.erlang import ErlangHome
from control_room.launcher.installed import CONTROL, SERVER, find
from control_room.launcher.ports import free_ports, is_free
from shared.topology import HASHING_PLUGIN
from shared.waiting import poll

NODE_NAME = "order_rail@localhost"  # need not be unique: only the nodes of a cluster share an epmd
START_TIMEOUT_SECONDS = 90.0
STOP_GRACE_SECONDS = 15.0
POLL_SECONDS = 0.1
ANSWER_TIMEOUT_SECONDS = 5.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that ask a private node, over HTTP: by default each one reads all certificates of this machine, 20 ms."""
NET_TICK_SECONDS = 10
"""How soon a node of a cluster takes another one that says nothing for dead; a minute if it is not told."""
ERLANG_ARGUMENTS = f"-kernel inet_dist_use_interface {{127,0,0,1}} -kernel net_ticktime {NET_TICK_SECONDS}"

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp_port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
# often enough for a live view of the queues
collect_statistics_interval = 1000
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
# a small log of quorum queues: less memory, and less to read again at the next start
raft.wal_max_size_bytes = 67108864
log.console = false
log.file.level = info
# RabbitMQ 4 logs every call of its management API
log.file.rotation.size = 10485760
log.file.rotation.count = 3
"""
ADVANCED_CONFIGURATION = """\
%% A retry comes back to its queue by dead-lettering. If that queue is full for a moment, the node tries again after
%% this time and returns nothing else meanwhile; the default is 180 s.
%% A quorum queue counts its messages at this interval; the default is 5 s.
[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 5000}, {quorum_tick_interval, 1000}]}].
"""
FILES = {
    "RABBITMQ_CONF_ENV_FILE": "rabbitmq-env.conf",
    "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
    "RABBITMQ_CONFIG_FILES": "conf.d",
    "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config",
    "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
    "RABBITMQ_MNESIA_BASE": "data",
    "RABBITMQ_MNESIA_DIR": "data/node",
    "RABBITMQ_PLUGINS_EXPAND_DIR": "data/plugins",
    "RABBITMQ_FEATURE_FLAGS_FILE": "data/feature_flags",
    "RABBITMQ_PID_FILE": "data/node.pid",
    "RABBITMQ_LOG_BASE": "log",
    "RABBITMQ_LOGS": "log/rabbitmq.log",
}
"""All files of a node, in its directory, by RabbitMQ's variable for each."""


class BrokerError(LaunchError):
    """The node did not start, or does not run; the message says what its log says."""


class PrivateBroker:
    """One RabbitMQ node, all of whose files are in `directory`. Its ports and its data stay the same over restarts."""

    def __init__(
        self,
        directory: Path,
        amqp_port: int = 0,
        management_port: int = 0,
        configuration: str = "",
        plugins: Iterable[str] = (),
        name: str = NODE_NAME,
        home: ErlangHome | None = None,
    ) -> None:
        """Port 0 means any free port. `configuration`: further lines of rabbitmq.conf.

        `plugins`: of RabbitMQ, beside the management plugin and the exchange of partitioned queues.
        `home`: what it shares with other nodes; nothing if None.
        """
        self.directory, self._configuration, self.name = directory.absolute(), configuration, name
        self._plugins = ("rabbitmq_management", HASHING_PLUGIN, *plugins)
        free = free_ports(3)
        self.amqp_port = amqp_port or free[0]
        self.management_port = management_port or free[1]
        self._distribution_port = free[2]
        self.log, self._start_log = (self.directory / "log" / name for name in ("rabbitmq.log", "start.log"))
        self._home, self._is_alone = home or ErlangHome(self.directory), home is None
        self._node: Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def amqp_url(self, vhost: str = "/") -> str:
        """The AMQP URL of a virtual host, as the user `guest`."""
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/{quote(vhost, safe='')}"

    @property
    def nodes(self) -> "tuple[PrivateBroker, ...]":
        """Itself, as of a cluster of one."""
        return (self,)

    @property
    def management_url(self) -> str:
        """The management HTTP API, as the user `guest`; without `/api`."""
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    @property
    def has_data(self) -> bool:
        """Whether it has run before."""
        return (self.directory / "data" / "node").exists()

    @property
    def pid(self) -> int:
        """The id of the node's process. BrokerError if it does not run."""
        return self._process().pid

    @property
    def is_running(self) -> bool:
        """Whether the node's process exists, ready or not."""
        return self._node is not None and self._node.returncode is None

    @property
    def has_died(self) -> bool:
        """Whether the node ended without a call of `stop` or `kill`."""
        return self._node is not None and self._node.returncode is not None

    async def start(self) -> None:
        """Start the node and wait until AMQP and the management API answer.

        Raises BrokerError with the end of the node's log if it dies, or isn't ready within 90 seconds.
        """
        if self.is_running:
            return
        await self.kill()  # if it died by itself, end what it left of its process group
        self._check_directory()
        self._check_ports()
        self._write_files()
        try:
            await self._home.start()
            await self._until(self._home.listens, "epmd did not listen")
            self._node = await spawn([find(SERVER)], self._environment(), self._start_log, self.directory)
            await self._until(self._is_ready, "it was not ready")
        except BaseException:
            await self.kill()
            await self._stop_epmd()
            raise

    async def stop(self) -> None:
        """SIGTERM to the node, SIGKILL after 15 seconds; then its epmd. Does nothing if nothing runs."""
        node, self._node = self._node, None
        if node is not None:
            await end(node, STOP_GRACE_SECONDS)
        await self._stop_epmd()

    async def kill(self) -> None:
        """Kill the node at once, as `kill -9` does. Its data stays, and `start` brings it back."""
        node, self._node = self._node, None
        if node is not None:
            await kill(node)

    def suspend(self) -> None:
        """SIGSTOP to the node: its connections stay open and nothing answers on them."""
        freeze(self._process())

    def resume(self) -> None:
        """SIGCONT to a suspended node."""
        thaw(self._process())

    async def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl` on the node. Raises BrokerError with its output if it fails; NotInstalledError."""
        command = await asyncio.create_subprocess_exec(
            find(CONTROL), "--quiet", *arguments, env=self._environment(), cwd=self.directory,
            stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = await command.communicate()
        except asyncio.CancelledError:
            await kill(command)
            raise
        if command.returncode != 0:
            raise BrokerError(f"rabbitmqctl {' '.join(arguments)}: {output.decode(errors='replace').strip()}")

    def _process(self) -> Process:
        if self._node is None:
            raise BrokerError(f"the RabbitMQ node in {self.directory} is not running")
        return self._node

    def _write_files(self) -> None:
        for folder in ("data", "log", "conf.d"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        ports = {"amqp_port": self.amqp_port, "management_port": self.management_port}
        texts = {
            "rabbitmq.conf": CONFIGURATION.format(**ports) + self._configuration,
            "advanced.config": ADVANCED_CONFIGURATION,
            "enabled_plugins": f"[{','.join(self._plugins)}].\n",
            "rabbitmq-env.conf": "",
        }
        for name, text in texts.items():
            (self.directory / name).write_text(text, encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        return {
            **self._home.environment,
            **{name: str(self.directory / file) for name, file in FILES.items()},
            "ERL_CRASH_DUMP_SECONDS": "0",  # a node that can't start says why in its log
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            "RUNNING_UNDER_SYSTEMD": "true",  # makes the start script become the node instead of its parent
        }

    def _check_directory(self) -> None:
        """Refuse a path that RabbitMQ 3.10's scripts can't handle: the node would start and never answer."""
        if "'" in str(self.directory) or not str(self.directory).isprintable():
            raise BrokerError(f"RabbitMQ can't run in {self.directory}: choose a directory without ' in its path")

    def _check_ports(self) -> None:
        """Refuse a taken port: `_is_ready` would take the other server's answer for the node's."""
        uses = {"AMQP": self.amqp_port, "management": self.management_port, "Erlang": self._distribution_port}
        for use, port in uses.items():
            if not is_free(port):
                raise BrokerError(f"RabbitMQ did not start: TCP port {port}, for {use}, is taken by another process")

    async def _stop_epmd(self) -> None:
        if self._is_alone:
            await self._home.stop()

    async def _until(self, probe: Callable[[], Awaitable[bool]], problem: str) -> None:
        """Poll until the probe succeeds. BrokerError if a process ends before, or after 90 seconds."""

        async def checked_probe() -> bool:
            for name, process in (("epmd", self._home.epmd), ("the node", self._node)):
                if process is not None and process.returncode is not None:
                    raise self._failure(f"{name} ended with status {process.returncode}")
            return await probe()

        if not await poll(checked_probe, within_seconds=START_TIMEOUT_SECONDS, every_seconds=POLL_SECONDS):
            raise self._failure(f"{problem} within {START_TIMEOUT_SECONDS:g} s")

    def _failure(self, problem: str) -> BrokerError:
        tails = (tail(log) for log in (self.log, self._start_log))
        ports = f"AMQP {self.amqp_port}, management {self.management_port}"
        return BrokerError(f"RabbitMQ in {self.directory} ({ports}) did not start: {problem}\n" + "\n".join(tails))

    async def _is_ready(self) -> bool:
        return await is_ready(self.management_url)


async def is_ready(management_url: str) -> bool:
    """Whether a node's management API answers, and says that the node listens for AMQP."""
    try:
        async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_SECONDS, trust_env=False, verify=NO_TLS) as client:
            answer = await client.get(f"{management_url}/api/overview")
    except httpx.HTTPError:
        return False
    return answer.is_success and any(each["protocol"] == "amqp" for each in answer.json()["listeners"])

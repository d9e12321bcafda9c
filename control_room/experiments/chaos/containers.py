"""A system that `docker compose` runs here: where this machine reaches it, and its containers, to be broken.

Plain `docker compose` is asked: COMPOSE_FILE and COMPOSE_PROJECT_NAME, from the environment or `.env`, say which.
"""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from control_room.experiments.chaos.system import Action, Node, RunningSystem
from control_room.launcher import LaunchError
from control_room.launcher.broker import is_ready
from control_room.operations.addresses import SystemAddresses
from shared.amqp_url import node_urls
from shared.contract import services
from shared.settings import wrong_variables
from shared.urls import several
from shared.waiting import poll

FRONT_DOOR, OPERATORS = "front_door", "control_room"
"""The services of the compose file that have what we need: published ports; addresses, token and retry delays."""
START_SECONDS = 90.0
POLL_SECONDS = 0.2


class ComposeError(LaunchError):
    """`docker` can't do what it was asked; the message says why."""


@dataclass(frozen=True)
class Composed:
    """What `docker compose` runs: addresses on this machine, and the management URL of each broker node by its host."""

    addresses: SystemAddresses
    nodes: Mapping[str, str]


async def composed() -> Composed:
    """Read it from the compose files. Raises ComposeError."""
    config = json.loads(await docker("compose", "config", "--format", "json"))["services"]
    if missing := {FRONT_DOOR, OPERATORS} - config.keys():
        raise ComposeError(
            f"the compose files have no service {', '.join(sorted(missing))}: is this Order Rail's directory?"
        )
    inside = config[OPERATORS]["environment"]
    amqp, management = (
        [_from_outside(config, url) for url in several(inside[name], schemes)]
        for name, schemes in (("RABBITMQ_URL", ("amqp",)), ("RABBITMQ_MANAGEMENT_URL", ("http",)))
    )
    variables = {
        **inside,
        **{each.variable("URL"): f"http://{_published(config, FRONT_DOOR, each.port)}" for each in services()},
        "RABBITMQ_URL": ",".join(amqp),
        "RABBITMQ_MANAGEMENT_URL": ",".join(management),
    }
    hosts = [urlsplit(url).hostname or "" for url in node_urls(inside["RABBITMQ_URL"])]
    try:
        return Composed(SystemAddresses.of(variables), dict(zip(hosts, management, strict=True)))
    except ValidationError as error:
        raise ComposeError(f"the compose files don't say where the system is:\n{wrong_variables(error)}") from None


def _from_outside(config: Mapping[str, Any], url: str) -> str:
    """The URL by which this machine reaches what a container reaches by this one."""
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    address = _published(config, str(parts.hostname), parts.port or 0)
    return parts._replace(netloc=f"{credentials}@{address}").geturl()


def _published(config: Mapping[str, Any], service: str, port: int) -> str:
    for each in config[service].get("ports", ()):
        if each["target"] == port and each.get("published"):
            return f"{each.get('host_ip') or '127.0.0.1'}:{each['published']}"
    raise ComposeError(f"port {port} of the compose service {service} is not published on this machine")


@dataclass
class Container:
    """A running container. `name` is how RabbitMQ, or a person, calls what runs in it."""

    name: str
    id: str
    management_url: str = ""
    pid: int = 0
    networks: Mapping[str, list[str]] = field(default_factory=dict)
    """Its other names in each."""

    @classmethod
    async def of(cls, service: str, name: str, management_url: str = "") -> "Container":
        """The first one of a service of the compose files. Raises ComposeError if none runs."""
        ids = (await docker("compose", "ps", "--quiet", service)).split()
        if not ids:
            raise ComposeError(f"no container of the compose service {service} runs: docker compose up --wait")
        self = cls(name, ids[0], management_url)
        await self._look()
        return self

    async def start(self) -> None:
        """Returns once its management API answers, if it has one. Raises ComposeError."""
        await docker("start", self.id)
        await self._look()
        if self.management_url and not await poll(
            lambda: is_ready(self.management_url), within_seconds=START_SECONDS, every_seconds=POLL_SECONDS
        ):
            raise ComposeError(f"{self.name} was not ready within {START_SECONDS:g} s: docker logs {self.id[:12]}")

    async def stop(self) -> None:
        await docker("stop", self.id)

    async def kill(self) -> None:
        await docker("kill", self.id)

    async def suspend(self) -> None:
        await docker("pause", self.id)

    async def resume(self) -> None:
        await docker("unpause", self.id)

    async def disconnect(self) -> None:
        """From every network, as if its cable were pulled."""
        for network in self.networks:
            await docker("network", "disconnect", network, self.id)

    async def connect(self) -> None:
        for network, aliases in self.networks.items():
            await docker("network", "connect", *(f"--alias={alias}" for alias in aliases), network, self.id)

    async def _look(self) -> None:
        (found,) = json.loads(await docker("inspect", self.id))
        self.pid = found["State"]["Pid"]
        networks = found["NetworkSettings"]["Networks"]
        self.networks = {name: each.get("Aliases") or [] for name, each in networks.items()}


async def docker(*arguments: str) -> str:
    """The output of a command. Raises ComposeError."""
    try:
        command = await asyncio.create_subprocess_exec("docker", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise ComposeError(f"docker can't be run: {error}") from None
    output, errors = await command.communicate()
    if command.returncode != 0:
        raise ComposeError(f"docker {' '.join(arguments)}: {errors.decode(errors='replace').strip()}")
    return output.decode()


@dataclass
class ComposedSystem(RunningSystem):
    """A system in containers."""

    brokers: list[Container]
    containers: Mapping[str, Container]
    """One of each service."""

    @property
    def nodes(self) -> list[Container]:
        return self.brokers

    @asynccontextmanager
    async def cutting(self, node: Node) -> AsyncIterator[tuple[Action, Action]]:
        container = next(each for each in self.brokers if each is node)
        yield container.disconnect, container.connect


async def containers(found: Composed) -> tuple[list[Container], dict[str, Container]]:
    """Those of the broker's nodes, and one of each service. Raises ComposeError."""
    brokers = [await Container.of(host, f"rabbit@{host}", url) for host, url in found.nodes.items()]
    return brokers, {each.name: await Container.of(each.name, each.name) for each in services()}

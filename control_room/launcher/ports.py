"""TCP ports: which are free on this machine, and those of a system."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_room.launcher import LaunchError
from shared.contract import services
from shared.http.address import reason, resolved
from shared.settings import load

RABBITMQ, MANAGEMENT, CONTROL_ROOM = "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT", "CONTROL_ROOM_PORT"

Ports = dict[str, int]
"""The ports of one system, by their settings, such as `RABBITMQ_PORT`."""

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a server that is
# killed finds its port free again when it comes back.
FIRST_PORT, LAST_PORT = 20000, 32000
LAST_GIVEN = Path(f"/tmp/order-rail-last-port-{os.getuid()}")  # noqa: S108 - one for all, whatever their TMPDIR is


def default_ports() -> Ports:
    """The documented ports."""
    of_services = {contract.variable("PORT"): contract.port for contract in services()}
    return {**of_services, RABBITMQ: 5672, MANAGEMENT: 15672, CONTROL_ROOM: 8080}


def ports_of_environment() -> Ports:
    """The default ports, or what the environment sets instead; a malformed value ends the process with a sentence."""
    fields: dict[str, Any] = {
        name.lower(): (int, Field(default, ge=1, le=65535)) for name, default in default_ports().items()
    }
    settings = load(create_model("Ports", __base__=_PortSettings, **fields))
    return {name.upper(): port for name, port in settings.model_dump().items()}


class _PortSettings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)


def unused_ports() -> Ports:
    """Ports for a system that nothing listens on."""
    names = default_ports()
    return dict(zip(names, free_ports(len(names)), strict=True))


def check_free(ports: Ports, names: Iterable[str], host: str = "127.0.0.1") -> None:
    """Raises LaunchError, which names the setting, if one of these is taken, or can't be had at `host`."""
    try:
        taken = [name for name in names if not is_free(ports[name], host)]
    except OSError as error:
        raise LaunchError(f"HTTP_HOST: nothing can listen at {host} here: {reason(error)}") from None
    if taken:
        raise LaunchError("\n".join(_sentence(name, ports[name]) for name in taken))


def _sentence(name: str, port: int) -> str:
    user = name.removesuffix("_PORT").lower().replace("_", " ").replace("rabbitmq", "RabbitMQ")
    hint = ", or RABBITMQ_URL to use a broker that runs already" if name in (RABBITMQ, MANAGEMENT) else ""
    return f"port {port}, for the {user}, is taken; set {name} to another one{hint}"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port: at `host`, on the loopback address and on all addresses.

    Raises OSError where `host` is no address of this machine.
    """
    everywhere = {host, "127.0.0.1", "0.0.0.0"}  # noqa: S104 - bound, never listened on
    return all(_can_bind(address, port) for address in everywhere)


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on right now.

    Nothing reserves them; but this user's processes take turns, so that none gets what another was given lately.
    """
    with LAST_GIVEN.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        file.seek(0)
        found = list(islice(filter(is_free, _after(file.read())), count))
        if len(found) < count:
            raise OSError(f"no {count} free TCP ports between {FIRST_PORT} and {LAST_PORT}")
        file.truncate(0)
        file.write(str(found[-1]))
    return found


def _after(last_given: str) -> Iterator[int]:
    """Every port once, from the one that follows."""
    last = int(last_given) if last_given.isdecimal() else FIRST_PORT
    size = LAST_PORT - FIRST_PORT
    return (FIRST_PORT + (last - FIRST_PORT + step) % size for step in range(1, size + 1))


def _can_bind(host: str, port: int) -> bool:
    family, address = resolved(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's remains don't count
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise
            return False
        return True

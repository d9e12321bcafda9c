"""The front door of the compose file, run natively: its own configuration, with ports and names of this machine."""

import asyncio
import os
import re
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from control_room.launcher.children import end, spawn, tail
from control_room.launcher.ports import free_ports
from shared.contract import services
from tests.support import eventually

CONFIGURATION = Path(__file__).parents[1] / "deploy/haproxy/haproxy.cfg"
STATISTICS, STATISTICS_PORT = "statistics", 8404
RESOLVER = "127.0.0.11:53"


class Names(asyncio.DatagramProtocol):
    """A DNS server that knows the addresses in `of`, by name, and can be told others at any time."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, query: bytes, sender: tuple[str, int]) -> None:
        end_of_name = query.index(0, 12)
        question, addresses = query[12 : end_of_name + 5], self.of.get(_name(query[12:end_of_name]), [])
        status = 0x8180 if addresses else 0x8183  # an answer, or "no such name"
        records = (b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(each) for each in addresses)
        head = query[:2] + struct.pack("!HHHHH", status, 1, len(addresses), 0, 0)
        self._transport.sendto(head + question + b"".join(records), sender)  # type: ignore[attr-defined]


def _name(labels: bytes) -> str:
    """From DNS's form, in which each part follows its length."""
    parts = []
    while labels:
        length = labels[0]
        parts.append(labels[1 : 1 + length].decode())
        labels = labels[1 + length :]
    return ".".join(parts)


def program() -> str:
    """HAProxy's path. Skips the test where it is not installed; fails it in CI."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        if os.environ.get("CI"):
            raise RuntimeError("haproxy is not installed")
        pytest.skip("haproxy is not installed")
    return found


def timeout_of(name: str) -> int:
    """The seconds of a `timeout` in the configuration."""
    (seconds,) = re.findall(rf"(?m)^    timeout {name} (\d+)s\b", CONFIGURATION.read_text())
    return int(seconds)


@asynccontextmanager
async def front_door(
    names: Mapping[str, list[str]],
    ports: Mapping[str, int],
    directory: Path,
    timeouts: Mapping[str, str] | None = None,
    *,
    haproxy: str = "haproxy",
) -> AsyncIterator[tuple[dict[str, int], Names]]:
    """HAProxy in front of the services in `ports`, whose replicas have the addresses `names`.

    Yields its own port for each service and for the statistics, and the names. `timeouts`: other values by name.
    """
    transport, known = await asyncio.get_running_loop().create_datagram_endpoint(Names, ("127.0.0.1", 0))
    known.of.update(names)
    doors = {contract.name: contract.port for contract in services()} | {STATISTICS: STATISTICS_PORT}
    own = dict(zip(doors, free_ports(len(doors)), strict=True))
    resolver = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    text = _replaced(CONFIGURATION.read_text(), RESOLVER, resolver)
    for name, port in doors.items():
        text = _replaced(text, f"bind :{port}\n", f"bind 127.0.0.1:{own[name]}\n")
    for service, port in ports.items():
        text = text.replace(f" {service}:{doors[service]}", f" {service}:{port}")
    for name, value in (timeouts or {}).items():
        text = re.sub(rf"(?m)^    timeout {name} \w+", f"    timeout {name} {value}", text)
    file, log = directory / "haproxy.cfg", directory / "haproxy.log"
    file.write_text(text)
    process = await spawn([haproxy, "-db", "-f", str(file)], os.environ, log)
    try:
        await _until_found(own, names, log)
        yield own, known
    finally:
        await end(process, 10)
        transport.close()


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {CONFIGURATION}"
    return text.replace(old, new)


async def _until_found(own: Mapping[str, int], names: Mapping[str, list[str]], log: Path) -> None:
    """Wait until it has an address for each service that has one."""

    async def look() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                page = (await http.get(f"http://127.0.0.1:{own[STATISTICS]}/metrics?no-maint")).text
        except httpx.TransportError:
            raise AssertionError(tail(log)) from None
        return all(f'proxy="{name}",server="replica1"' in page for name, addresses in names.items() if addresses)

    await eventually(look, 10, "HAProxy to know the replicas")

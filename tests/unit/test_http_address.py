"""Where a server listens and what its URL is, for every way to write a host."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from control_room.launcher.ports import free_ports, is_free
from control_room.operations.replicas import replicas
from shared.http.address import listen, resolved, url_of

IS_READY = Path(__file__).parents[2] / "deploy" / "is-ready"
HOSTS = ["127.0.0.1", "0.0.0.0", "localhost", "::1", "[::1]", "::", "[::]", "0:0:0:0:0:0:0:1", "127.1.2.3", "0"]


@asynccontextmanager
async def answering(host: str) -> AsyncIterator[int]:
    """A server at `host` that answers everything with `ok`; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(answer, sock=listen(host, 0)) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"),
        ("[::]", "http://[::1]:8000"),
        ("0:0:0:0:0:0:0:0", "http://[::1]:8000"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8000"),
        ("shop.example", "http://shop.example:8000"),
    ],
)
def test_a_host_has_a_url_that_can_be_asked(host: str, url: str) -> None:
    assert url_of(host, 8000) == url


@pytest.mark.parametrize("host", HOSTS)
async def test_a_server_is_found_under_its_url_and_by_the_health_check_of_a_container(host: str) -> None:
    async with answering(host) as port, httpx.AsyncClient(trust_env=False) as http:
        url = url_of(host, port)
        (replica,) = await replicas(f"{url}/")
        assert [(await http.get(each)).text for each in (url, replica)] == ["ok", "ok"]

        environment = {**os.environ, "HTTP_HOST": host, "HTTP_PORT": str(port)}
        check = await asyncio.create_subprocess_exec("bash", IS_READY, env=environment, stderr=subprocess.PIPE)
        _, errors = await check.communicate()
    assert (check.returncode, errors) == (0, b"")


async def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    async with answering("::") as port, httpx.AsyncClient(trust_env=False) as http:
        assert [(await http.get(f"http://{host}:{port}")).text for host in ("127.0.0.1", "[::1]")] == ["ok", "ok"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_a_port_is_taken_at_the_address_that_counts(host: str) -> None:
    (port,) = free_ports(1)
    with listen(host, port):
        assert not is_free(port, host)
    assert is_free(port, host)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.1.1", "[::1", "a b"])
def test_an_invalid_host_is_refused_with_a_reason(host: str) -> None:
    with pytest.raises(OSError, match="no address and no name that resolves"):
        resolved(host, 80)


async def test_a_process_with_an_address_of_each_family_is_one_replica() -> None:
    assert await replicas("http://localhost:8000/x") == ["http://127.0.0.1:8000/x"]

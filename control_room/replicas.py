"""A metric of every replica of a service: its URL may stand for several processes, each with counts of its own."""

import asyncio
import socket
from urllib.parse import urlsplit

import httpx


async def samples(http: httpx.AsyncClient, url: str, metric: str, label: str = "") -> list[float]:
    """The metric of each replica, the sum over its labels that contain `label`; 0 where it was never counted.

    Raises httpx.HTTPError, or OSError where the name does not resolve.
    """
    pages = [await http.get(f"{replica}/metrics") for replica in await _replicas(url)]
    return [_sample(page.raise_for_status().text, metric, label) for page in pages]


async def _replicas(url: str) -> list[str]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    known = await asyncio.get_running_loop().getaddrinfo(
        parts.hostname, port, family=socket.AF_INET, type=socket.SOCK_STREAM
    )
    return [f"{parts.scheme}://{ip}:{port}{parts.path}" for ip in sorted({address[0] for *_, address in known})]


def _sample(page: str, metric: str, label: str) -> float:
    """The sum of a metric's samples on a page in Prometheus' text format."""
    lines = (line for line in page.splitlines() if line.startswith(metric) and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)

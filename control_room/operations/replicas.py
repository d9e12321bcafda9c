"""What every replica of a service counts: its URL may stand for several processes, each with counts of its own."""

import asyncio
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from shared.http.address import in_url

_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Total:
    """The sum of a counter over the lives of its process: each starts again at 0."""

    last: float = 0
    total: float = 0

    def see(self, value: float) -> None:
        """The counter reads `value` now."""
        self.total += value - self.last if value >= self.last else value
        self.last = value


@dataclass(frozen=True)
class Sample:
    """One line of a page in Prometheus' text format."""

    metric: str
    labels: dict[str, str]
    value: float


async def samples(http: httpx.AsyncClient, url: str, metric: str, label: str = "") -> list[float]:
    """The metric of each replica, the sum over its labels that contain `label`; 0 where it was never counted.

    Raises httpx.HTTPError, or OSError where the name does not resolve.
    """
    pages = [await http.get(f"{replica}/metrics") for replica in await replicas(url)]
    return [_sum(page.raise_for_status().text, metric, label) for page in pages]


async def replicas(url: str) -> list[str]:
    """The URL of each process behind `url`. Raises OSError where the name does not resolve."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    known = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    # A process may have an address of each family, and is to be asked once: IPv4, unless there is none.
    family = min((each[0] for each in known), key=lambda each: each != socket.AF_INET)
    addresses = sorted({str(each[-1][0]) for each in known if each[0] == family})
    return [parts._replace(netloc=f"{in_url(ip)}:{port}").geturl() for ip in addresses]


def parsed(page: str, prefix: str) -> list[Sample]:
    """The samples on a page whose metric begins with `prefix`, without the buckets of histograms."""
    lines = (line for line in page.splitlines() if line.startswith(prefix) and "_bucket{" not in line)
    return [_sample(line) for line in lines]


def _sample(line: str) -> Sample:
    what, _, value = line.rpartition(" ")
    metric, _, labels = what.partition("{")
    return Sample(metric, dict(_LABEL.findall(labels)), float(value))


def _sum(page: str, metric: str, label: str) -> float:
    lines = (line for line in page.splitlines() if line.startswith(metric) and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)

"""What every replica of a service counts: its URL may stand for several processes, each with counts of its own."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from shared.http.address import in_url

NO_LABELS: Mapping[str, str] = {}


@dataclass
class Total:
    """The sum of a counter over the lives of its process: each starts again at 0."""

    last: float = 0
    total: float = 0

    def see(self, value: float) -> None:
        """The counter reads `value` now."""
        self.total += value - self.last if value >= self.last else value
        self.last = value


async def samples(http: httpx.AsyncClient, url: str, metric: str, labels: Mapping[str, str] = NO_LABELS) -> list[float]:
    """For each replica the sum of the metric's samples that carry these labels; 0 if there are none.

    Raises httpx.HTTPError, or OSError if the host name does not resolve.
    """
    pages = [await http.get(f"{replica}/metrics") for replica in await replicas(url)]
    return [sum_of(parsed(page.raise_for_status().text), metric, labels) for page in pages]


async def replicas(url: str) -> list[str]:
    """The URL of each process behind `url`. Raises OSError where the name does not resolve."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    known = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    # A process may have an address of each family, and is to be asked once: IPv4, unless there is none.
    family = min((each[0] for each in known), key=lambda each: each != socket.AF_INET)
    addresses = sorted({str(each[-1][0]) for each in known if each[0] == family})
    return [parts._replace(netloc=f"{in_url(ip)}:{port}").geturl() for ip in addresses]


def parsed(page: str) -> list[Sample]:
    """The samples of our own metrics, without the buckets of histograms, which nobody reads."""
    lines = (line for line in page.splitlines() if line.startswith("order_rail_") and "_bucket{" not in line)
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return [sample for family in families for sample in family.samples]


def sum_of(page: list[Sample], metric: str, labels: Mapping[str, str] = NO_LABELS) -> float:
    """The sum of a metric's samples that carry these labels."""
    return sum(each.value for each in page if each.name == metric and labels.items() <= each.labels.items())

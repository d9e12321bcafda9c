"""RABBITMQ_URL: the broker, the user, the virtual host and the trusted certificates. Every component reads it here.

It may list the nodes of a cluster, one URL for each, separated by commas.
"""

from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from shared.http.address import in_url
from shared.tls import FILES, TlsFiles, tls_files
from shared.urls import checked_url, parameters, read_each, several

EXPECTED = "amqp://user:password@host:port/vhost (amqps:// for TLS)"
PORTS = {"amqp": 5672, "amqps": 5671}
MANAGEMENT = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
MAX_HEARTBEAT_SECONDS = 65535  # two bytes on the wire


@dataclass(frozen=True)
class AmqpUrl:
    """The parts, decoded. `heartbeat_seconds` is None if the URL names none; 0 means no heartbeats."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str
    heartbeat_seconds: int | None
    tls: TlsFiles

    @property
    def is_tls(self) -> bool:
        return self.scheme == "amqps"

    @property
    def management_url(self) -> str:
        """The management API of the same host on its default port, for the same user and with the same TLS files."""
        scheme, port = MANAGEMENT[self.scheme]
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{credentials}@{in_url(self.host)}:{port}{self.tls.as_query()}"


def node_urls(value: str) -> list[str]:
    """The URL of each node that RABBITMQ_URL lists."""
    return several(value, tuple(PORTS))


def node_of(url: str) -> str:
    """The host and the port that stand in a URL of one node."""
    return urlsplit(url).netloc.rpartition("@")[2]


def amqp_urls(value: str) -> list[AmqpUrl]:
    """The parts of each. Raises ValueError as `amqp_url` does, also where they don't lead to one virtual host."""
    nodes = read_each(value, tuple(PORTS), amqp_url)
    other = next((number for number, node in enumerate(nodes, 1) if node.vhost != nodes[0].vhost), None)
    if other:
        raise ValueError(
            f"URL {other} of {len(nodes)} has another virtual host than the first; expected the same in all"
        )
    return nodes


def amqp_url(url: str) -> AmqpUrl:
    """Raises ValueError with a sentence that shows nothing of the value, since it may hold a password.

    An accepted URL means the same to `pika.URLParameters`; one that pika would read differently is refused.
    """
    parts = checked_url(url, tuple(PORTS), EXPECTED)
    given = parameters(parts.query, ("heartbeat", *FILES))
    if parts.fragment:
        raise ValueError(f"expected {EXPECTED}, and nothing behind a #")
    if "/" in parts.path[1:]:
        raise ValueError(
            "expected one / before the virtual host and none in it or behind it; write %2F for a / in its name"
        )
    user, password = _credentials(parts.username, parts.password)
    return AmqpUrl(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        user=user,
        password=password,
        vhost=unquote(parts.path[1:]) or "/",
        heartbeat_seconds=_heartbeat(given.get("heartbeat")),
        tls=tls_files(given, encrypted=parts.scheme == "amqps"),
    )


def _credentials(user: str | None, password: str | None) -> tuple[str, str]:
    if user is None:
        return "guest", "guest"
    if not user or password is None:
        raise ValueError(f"expected {EXPECTED}, with a user and a password, or with neither")
    return unquote(user), unquote(password)


def _heartbeat(seconds: str | None) -> int | None:
    if seconds is None:
        return None
    if not (seconds.isascii() and seconds.isdecimal()) or int(seconds) > MAX_HEARTBEAT_SECONDS:
        raise ValueError(f"expected heartbeat=<seconds>, at most {MAX_HEARTBEAT_SECONDS}; 0 for none")
    return int(seconds)

"""RABBITMQ_URL, read in one place for all: which broker, as whom, which virtual host, and whom to trust."""

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from shared.http.address import in_url
from shared.tls import FILES, TlsFiles, tls_files
from shared.urls import checked_url, parameters

EXPECTED = "amqp://user:password@host:port/vhost (amqps:// for TLS)"
PORTS = {"amqp": 5672, "amqps": 5671}
MANAGEMENT = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
MAX_HEARTBEAT_SECONDS = 65535  # two bytes on the wire


@dataclass(frozen=True)
class AmqpUrl:
    """The parts, decoded. `heartbeat_seconds` is None where the URL leaves it to us, 0 for none."""

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
        """The management API of this host, as the same user and as well protected, on its usual port."""
        scheme, port = MANAGEMENT[self.scheme]
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{credentials}@{in_url(self.host)}:{port}{self.tls.as_query()}"


def amqp_url(url: str) -> AmqpUrl:
    """Raises ValueError with a sentence that shows nothing of the value: it may hold a password.

    What is accepted means the same to `pika.URLParameters`; what that would read in its own way is refused.
    """
    parts = checked_url(url, tuple(PORTS), EXPECTED)
    given = parameters(parts.query, ("heartbeat", *FILES))
    if parts.fragment:
        raise ValueError(f"expected {EXPECTED}, and nothing behind a #")
    user, password = _credentials(parts.username, parts.password)
    return AmqpUrl(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        user=user,
        password=password,
        vhost=_vhost(parts.path),
        heartbeat_seconds=_heartbeat(given.get("heartbeat")),
        tls=tls_files(given, encrypted=parts.scheme == "amqps"),
    )


def _credentials(user: str | None, password: str | None) -> tuple[str, str]:
    if user is None:
        return "guest", "guest"
    if not user or password is None:
        raise ValueError(f"expected {EXPECTED}, with a user and a password, or with neither")
    return unquote(user), unquote(password)


def _vhost(path: str) -> str:
    """The virtual host that a path names; `/`, RabbitMQ's own default, where it names none."""
    if "/" in path[1:]:
        raise ValueError(
            "expected one / before the virtual host and none in it or behind it; write %2F for a / in its name"
        )
    return unquote(path[1:]) or "/"


def _heartbeat(seconds: str | None) -> int | None:
    if seconds is None:
        return None
    if not (seconds.isascii() and seconds.isdecimal()) or int(seconds) > MAX_HEARTBEAT_SECONDS:
        raise ValueError(f"expected heartbeat=<seconds>, at most {MAX_HEARTBEAT_SECONDS}; 0 for none")
    return int(seconds)

"""What one client may ask of a server before anything looks at what it asks for."""

import re
import resource
from dataclasses import dataclass
from functools import lru_cache

FILES_OF_OUR_OWN = 128
"""Files and connections to the broker and the database that must not be wanting because clients took them all."""


def _most_connections() -> int:
    return max(64, min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_OF_OUR_OWN))


@dataclass(frozen=True)
class Limits:
    """Bytes, seconds and numbers for one connection; the last, for one process."""

    target_bytes: int = 8 * 1024
    """Path and query."""

    header_bytes: int = 8 * 1024
    """Name and value of one header."""

    headers_bytes: int = 32 * 1024
    """All headers together. Browsers send every cookie of `localhost` to each of its ports."""

    headers: int = 100

    request_bytes: int = 2 * 1024 * 1024
    """A request as it comes: with its framing, and with the rest of a body that was refused already."""

    request_seconds: float = 20.0
    """From the first byte of a request (from the connection, for the first one) to its last."""

    idle_seconds: int = 30
    """Between the end of an answer and the first byte of the next request."""

    linger_seconds: float = 3.0
    """How long a client that was refused may go on sending, lest a reset takes the answer from it."""

    unread_seconds: float = 60.0
    """How long a client may leave an answer unread that is too long to be sent on, before its connection is cut."""

    pipelined: int = 100
    """Requests that wait on one connection for those before them."""

    connections: int = _most_connections()
    """At the same time. With an unfinished body of 64 KiB on each they fill a container of 256 MiB, and no more."""


_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::([0-9]{0,5}))?")


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether it can stand in a Host header (RFC 9110, 7.2): a name or an address, and perhaps a port."""
    found = _HOST.fullmatch(value)
    return found is not None and int(found[1] or 0) <= 65535

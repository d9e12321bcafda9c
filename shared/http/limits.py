"""The limits of an HTTP connection, before the application sees a request."""

import re
import resource
from dataclasses import dataclass
from functools import lru_cache

OWN_FILES = 128
"""File descriptors that stay free for our own files and for connections to the broker and the database."""


def _max_connections() -> int:
    return max(64, min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES))


@dataclass(frozen=True)
class Limits:
    """For each connection, except `connections`, which is for the process."""

    target_bytes: int = 8 * 1024  # path and query
    header_bytes: int = 8 * 1024  # name and value of one header
    headers_bytes: int = 32 * 1024  # all together; browsers send every cookie of `localhost` to each of its ports
    headers: int = 100
    request_bytes: int = 2 * 1024 * 1024  # with chunk framing, and with the rest of a body that was refused already
    request_seconds: float = 20.0  # from the first byte (for the first request: from the connection) to the last
    idle_seconds: int = 30  # from the end of an answer to the first byte of the next request
    linger_seconds: float = 3.0  # for a client that was refused to go on sending: a reset could destroy the answer
    unread_seconds: float = 60.0  # for a client that does not read its answer, until its connection is aborted
    pipelined: int = 100  # requests that wait for the answers to those before them
    connections: int = _max_connections()  # each with an unfinished body of 64 KiB, they fit in 256 MiB


_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::([0-9]{0,5}))?")


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Whether this is a valid Host header (RFC 9110, 7.2): a name or an address, and perhaps a port."""
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) <= 65535

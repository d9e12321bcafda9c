"""TCP ports of this machine: which are free."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from shared.http.address import resolved

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a server that is
# killed finds its port free again when it comes back.
FIRST_PORT, LAST_PORT = 20000, 32000
LAST_GIVEN = Path(f"/tmp/order-rail-last-port-{os.getuid()}")  # noqa: S108 - one for all, whatever their TMPDIR is


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

"""TCP ports of this machine: which are free."""

import random
import socket

# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections: a server that is
# killed finds its port free again when it comes back.
FIRST_PORT, LAST_PORT = 20000, 32000


def is_free(port: int) -> bool:
    """Whether a server could listen on the port, on the loopback address and on all addresses."""
    return all(_can_bind(address, port) for address in ("127.0.0.1", "0.0.0.0"))  # noqa: S104 - bound, never listened on


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on right now. Nothing reserves them: use them soon."""
    found: list[int] = []
    for port in random.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free TCP ports between {FIRST_PORT} and {LAST_PORT}")


def _can_bind(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's remains don't count
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True

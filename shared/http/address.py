"""Where a server listens, from HTTP_HOST and a port, and the URL under which it is reached there."""

import ipaddress
import os
import socket
from typing import Any


def url_of(host: str, port: int) -> str:
    """The HTTP URL of a server that listens on `host`: IPv6 in brackets, and the loopback address for "all of them"."""
    bare = without_brackets(host)
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return f"http://{bare}:{port}"
    if address.is_unspecified:
        bare = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{in_url(bare)}:{port}"


def in_url(host: str) -> str:
    """A host as URLs want it: an IPv6 address in brackets, and whatever stands before a zone percent-encoded."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def without_brackets(host: str) -> str:
    """The host as sockets want it: `::1` of `[::1]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The family and address to bind for `host`; of a name with several, IPv4 first. Raises OSError with a reason."""
    try:
        found = socket.getaddrinfo(
            without_brackets(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"{host} is no address and no name that resolves ({error})") from None
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def listen(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A listening socket; on `::` for IPv4 too, where the machine can. Raises OSError whose text says why."""
    family, address = resolved(host, port)
    both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=backlog, dualstack_ipv6=both)


def reason(error: OSError) -> str:
    """Why an address can't be had, without Python's own words around it."""
    return os.strerror(error.errno) if error.errno else str(error)

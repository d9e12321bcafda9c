"""The address where a server listens, from HTTP_HOST and a port, and the URL under which it is reached there."""

import ipaddress
import os
import socket
from typing import Any


def url_of(host: str, port: int) -> str:
    """The URL of a server that listens on `host`: the loopback address if it listens on all of them."""
    bare = without_brackets(host)
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return f"http://{bare}:{port}"
    if address.is_unspecified:
        bare = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{in_url(bare)}:{port}"


def in_url(host: str) -> str:
    """A host as URLs write it: an IPv6 address in brackets, the `%` before its zone percent-encoded."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def without_brackets(host: str) -> str:
    """A host as sockets take it: `::1` for `[::1]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The family and address to bind for `host`, IPv4 first. Raises OSError with a reason."""
    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        addresses = socket.getaddrinfo(without_brackets(host), port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"{host} is no address and no name that resolves ({error})") from None
    family, _, _, _, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    return family, address


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; on `::` for IPv4 as well, if the machine can. Raises OSError with a reason."""
    family, address = resolved(host, port)
    both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, dualstack_ipv6=both)


def reason(error: OSError) -> str:
    """Why an address cannot be used, without the words that Python adds."""
    return os.strerror(error.errno) if error.errno else str(error)

"""Whom to trust and who we are, as a URL's query names it: `?cafile=`, `&certfile=`, `&keyfile=`."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

FILES = ("cafile", "certfile", "keyfile")


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files, empty where none is named. `cafile`: authorities trusted beside the machine's own."""

    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""

    @property
    def any(self) -> bool:
        return self != TlsFiles()

    def context(self) -> ssl.SSLContext:
        """For a client that checks the server's certificate and name. Raises ValueError, naming what can't be read."""
        context = ssl.create_default_context()
        if self.cafile:
            _read("cafile", self.cafile, lambda: context.load_verify_locations(self.cafile))
        if self.certfile:
            key = self.keyfile or None
            # An encrypted key is refused: without this OpenSSL would ask for its password at the terminal.
            _read("certfile", self.certfile, lambda: context.load_cert_chain(self.certfile, key, password=lambda: ""))
        return context

    def as_query(self) -> str:
        """What to append to a URL for the same files; empty where there are none."""
        given = [f"{name}={quote(path)}" for name, path in asdict(self).items() if path]
        return "?" + "&".join(given) if given else ""


def tls_files(given: Mapping[str, str], *, encrypted: bool) -> TlsFiles:
    """From a query's parameters; `encrypted`: whether the URL's scheme is one with TLS.

    Raises ValueError with a sentence if they don't fit together or can't be read.
    """
    files = TlsFiles(**{name: given[name] for name in FILES if name in given})
    if files.any and not encrypted:
        raise ValueError("cafile, certfile and keyfile are for a URL with TLS: amqps:// or https://")
    if files.keyfile and not files.certfile:
        raise ValueError("keyfile is the key of a certfile, and none is named")
    if files.any:
        files.context()
    return files


def _read(name: str, path: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, whose strerror says what was wrong in it
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{name} {path} can't be used: {why}") from None

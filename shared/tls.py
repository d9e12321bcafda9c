"""The files for TLS that a URL's query names: `?cafile=`, `&certfile=`, `&keyfile=`."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote

FILES = ("cafile", "certfile", "keyfile")


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files, empty if not given. `cafile`: authorities that are trusted beside the machine's own."""

    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""

    @property
    def any(self) -> bool:
        return self != TlsFiles()

    def context(self) -> ssl.SSLContext:
        """For a client that checks the server's certificate and name. Raises ValueError, naming an unreadable file."""
        context = ssl.create_default_context()
        if self.cafile:
            _read("cafile", self.cafile, lambda: context.load_verify_locations(self.cafile))
        if self.certfile:
            key = self.keyfile or None
            # The empty password makes an encrypted key fail; OpenSSL would ask for its password at the terminal.
            _read("certfile", self.certfile, lambda: context.load_cert_chain(self.certfile, key, password=lambda: ""))
        return context

    def as_query(self) -> str:
        """What to append to a URL for the same files, empty if there are none."""
        given = [f"{name}={quote(path)}" for name, path in asdict(self).items() if path]
        return "?" + "&".join(given) if given else ""


def tls_files(given: Mapping[str, str], *, encrypted: bool) -> TlsFiles:
    """The files among a query's parameters. `encrypted`: whether the URL's scheme means TLS.

    Raises ValueError with a sentence if they contradict each other or are not readable.
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
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError with a `reason`
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{name} {path} can't be used: {why}") from None

"""EMAIL_URL: the mail server, how its certificate is checked, and how long each phase of SMTP may take."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args
from urllib.parse import unquote

from notification_service.contract import EMAIL_ATTEMPT_SECONDS
from shared.tls import FILES, tls_files
from shared.urls import checked_url, parameters

TRY_SECONDS = EMAIL_ATTEMPT_SECONDS
"""The limit for all phases of one mail together."""

FORM = "smtp://host:port or smtps://user:password@host:port"

FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
"""Host names that every server accepts in EHLO: some refuse names without a dot, as of a container, or with `_`."""

StartTls = Literal["if-offered", "required", "never"]


@dataclass(frozen=True)
class Limits:
    """Time limits by phase, in seconds. The defaults are those of RFC 5321, section 4.5.3.2."""

    connect_seconds: float = 30.0
    """Name look-up and connecting; RFC 5321 has no value for it."""
    greeting_seconds: float = 300.0
    """With `smtps` including the TLS handshake before it."""
    command_seconds: float = 300.0
    """Each of EHLO, STARTTLS with its handshake, AUTH, MAIL and RCPT."""
    data_seconds: float = 120.0
    """From DATA to its answer."""
    content_seconds: float = 180.0
    """Sending the mail's text."""
    final_seconds: float = 600.0
    """From the final dot to its answer. If this is too short, an accepted mail is sent again."""


@dataclass(frozen=True)
class SmtpUrl:
    """A mail server. Without a user there is no login."""

    host: str
    port: int
    uses_tls: bool
    user: str | None
    password: str
    own_name: str
    """This client's name for EHLO; empty for the name of this machine."""
    start_tls: StartTls
    tls: ssl.SSLContext
    limits: Limits

    @classmethod
    def of(cls, url: str) -> "SmtpUrl":
        """Raises `ValueError` with what was expected; of the URL it shows only names of parameters."""
        parts = checked_url(url, ("smtp", "smtps"), FORM)
        if parts.path.strip("/") or parts.fragment:
            raise ValueError(f"expected {FORM}, without a path or a fragment")
        query, uses_tls = parameters(parts.query, _PARAMETERS), parts.scheme == "smtps"
        return cls(
            host=_host(parts.hostname or ""),
            port=parts.port or (465 if uses_tls else 25),
            uses_tls=uses_tls,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password or ""),
            own_name=_own_name(query),
            start_tls=_start_tls(query, uses_tls),
            tls=_tls(query),
            limits=Limits(**{name: _seconds(name, value) for name, value in query.items() if name in _LIMITS}),
        )

    def __str__(self) -> str:
        """For messages and logs: without user and password."""
        return f"{self.host}:{self.port}"


_LIMITS = tuple(field.name for field in fields(Limits))
_PARAMETERS = ("ehlo", "starttls", "verify", *FILES, *_LIMITS)


def _host(host: str) -> str:
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("expected a host name, each of its parts with 1 to 63 characters") from None
    return host


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TRY_SECONDS:
        raise ValueError(f"{name}: expected seconds, more than 0 and at most {TRY_SECONDS:g}, the time for one mail")
    return seconds


def _own_name(query: Mapping[str, str]) -> str:
    name = query.get("ehlo", "")
    if name and not FULL_NAME.fullmatch(name):
        raise ValueError("ehlo: expected a full host name such as orders.example.com")
    return name


def _start_tls(query: Mapping[str, str], uses_tls: bool) -> StartTls:
    value = query.get("starttls", "if-offered")
    if uses_tls and "starttls" in query:
        raise ValueError("starttls: with smtps:// all is encrypted from the start; expected it with smtp:// only")
    if value not in get_args(StartTls):
        raise ValueError(f"starttls: expected one of {', '.join(get_args(StartTls))}")
    return cast(StartTls, value)


def _tls(query: Mapping[str, str]) -> ssl.SSLContext:
    verify = query.get("verify", "yes")
    if verify not in ("yes", "no"):
        raise ValueError("verify: expected yes, or no to trust any certificate")
    if verify == "no" and "cafile" in query:
        raise ValueError("cafile and verify=no contradict each other; expected one of them")
    context = tls_files(query, encrypted=True).context()
    if verify == "no":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

"""EMAIL_URL: the mail server, how its certificate is checked, and how long each phase of SMTP may take."""

import re
import ssl
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from notification_service.contract import EMAIL_ATTEMPT_SECONDS
from shared.tls import FILES, tls_files
from shared.urls import checked_url, parameters

TRY_SECONDS = EMAIL_ATTEMPT_SECONDS
"""The limit for all phases of one mail together."""

CONNECTIONS = 10
"""The most that are open at once."""

FORM = "smtp://host:port or smtps://user:password@host:port"

FULL_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
"""Host names that every server accepts in EHLO: some refuse names without a dot, as of a container, or with `_`."""


def _full_name(name: str) -> str:
    if not FULL_NAME.fullmatch(name):
        raise ValueError("expected a full host name such as orders.example.com")
    return name


Seconds = Annotated[float, Field(gt=0, le=TRY_SECONDS)]


class Options(BaseModel, frozen=True):
    """What may follow the `?`. The defaults of the time limits are those of RFC 5321, section 4.5.3.2."""

    ehlo: Annotated[str, AfterValidator(_full_name)] = ""  # this client's name; empty for the name of this machine
    starttls: Literal["if-offered", "required", "never"] = "if-offered"
    verify: Literal["yes", "no"] = "yes"  # `no` trusts any certificate
    connections: Annotated[int, Field(ge=1, le=CONNECTIONS)] = CONNECTIONS  # for a server that allows fewer
    connect_seconds: Seconds = 30.0  # name look-up and connecting; RFC 5321 has no value for it
    greeting_seconds: Seconds = 300.0  # with `smtps` including the TLS handshake before it
    command_seconds: Seconds = 300.0  # each of EHLO, STARTTLS with its handshake, AUTH, MAIL and RCPT
    data_seconds: Seconds = 120.0  # from DATA to its answer
    content_seconds: Seconds = 180.0  # sending the mail's text
    final_seconds: Seconds = 600.0  # from the final dot to its answer; if too short, an accepted mail is sent again


@dataclass(frozen=True)
class SmtpUrl:
    """A mail server. Without a user there is no login."""

    host: str
    port: int
    uses_tls: bool
    user: str | None
    password: str
    options: Options
    tls: ssl.SSLContext

    @classmethod
    def of(cls, url: str) -> "SmtpUrl":
        """Raises `ValueError` with what was expected; of the URL it shows only names of parameters."""
        parts = checked_url(url, ("smtp", "smtps"), FORM)
        if parts.path.strip("/") or parts.fragment:
            raise ValueError(f"expected {FORM}, without a path or a fragment")
        query, uses_tls = parameters(parts.query, (*Options.model_fields, *FILES)), parts.scheme == "smtps"
        if uses_tls and "starttls" in query:
            raise ValueError("starttls: with smtps:// all is encrypted from the start; expected it with smtp:// only")
        options = _options(query)
        return cls(
            host=_host(parts.hostname or ""),
            port=parts.port or (465 if uses_tls else 25),
            uses_tls=uses_tls,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password or ""),
            options=options,
            tls=_tls(query, options),
        )

    def __str__(self) -> str:
        """For messages and logs: without user and password."""
        return f"{self.host}:{self.port}"


def _options(query: dict[str, str]) -> Options:
    try:
        return Options.model_validate(query)
    except ValidationError as error:
        raise ValueError("; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())) from None


def _host(host: str) -> str:
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("expected a host name, each of its parts with 1 to 63 characters") from None
    return host


def _tls(query: dict[str, str], options: Options) -> ssl.SSLContext:
    if options.verify == "no" and "cafile" in query:
        raise ValueError("cafile and verify=no contradict each other; expected one of them")
    context = tls_files(query, encrypted=True).context()
    if options.verify == "no":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

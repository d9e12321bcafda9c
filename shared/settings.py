"""Configuration from environment variables. A malformed value ends the process with a line that names the variable.

A process reads only the variables that it needs; a service adds its own in its `app.py`.
"""

import ssl
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared import contract
from shared.amqp_url import AmqpUrl, amqp_urls
from shared.contract import ServiceContract
from shared.tls import FILES, tls_files
from shared.urls import checked_url, parameters, read_each, several

MAX_RETRY_DELAY_SECONDS = 24 * 3600.0
MANAGEMENT_SCHEMES = ("http", "https")


def checked_database_url(value: str) -> str:
    """The value. Raises `ValueError` unless it names a SQLite file or a PostgreSQL database."""
    if not value.startswith("sqlite:///") or value.endswith((":///", ":memory:")):
        expected = "sqlite:///folder/file.db or postgresql://user:password@host:port/database"
        checked_url(value, ("postgresql", "postgresql+psycopg", "postgres"), expected)
    return value


def checked_token(value: str) -> str:
    """The value. Raises `ValueError` if an HTTP header can't carry it unchanged."""
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        raise ValueError("expected printable ASCII without spaces at its ends: it is sent in an HTTP header")
    return value


OperatorToken = Annotated[str, AfterValidator(checked_token)]


def _delays(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        delays = tuple(float(part) for part in value.split(","))
    except ValueError:
        raise ValueError("expected seconds separated by commas, such as 1,5,30") from None
    if not all(0 < delay <= MAX_RETRY_DELAY_SECONDS for delay in delays):
        raise ValueError("each delay must be above 0 and at most a day")
    return delays


Delays = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_delays)]


class _BrokerSettings(BaseSettings):
    """Where RabbitMQ is, and how long a failed message waits before each further attempt."""

    model_config = SettingsConfigDict(env_ignore_empty=True, hide_input_in_errors=True)

    # repr=False, here and below: tracebacks and log lines must not show a password.
    rabbitmq_url: str = Field(
        "amqp://guest:guest@localhost:5672/",
        repr=False,
        description="the path is the virtual host; with `amqps://` the connection is encrypted; several URLs, "
        "separated by commas, are the nodes of a cluster: [below](#the-brokers-url)",
    )
    rabbitmq_management_url: str = Field(
        "",
        repr=False,
        description="topology and control room alone read it; without it, port 15672 of the same host and user, or "
        "15671 and `https` with `amqps`; may list several, too",
    )
    retry_delays_seconds: Delays = Field(
        (1.0, 5.0, 30.0), description="how long a failed message waits before each further attempt"
    )
    controls_enabled: bool = Field(
        False,
        description="whether services may be killed, paused and slowed through the exchange `control`; `true` in "
        "`docker-compose.yml`, not for production. The native control room works without it",
    )

    events_kept_hours: int = Field(
        0,
        ge=0,
        le=10 * 366 * 24,
        description="how long the stream `events` keeps a copy of every event, for consumers that come later "
        "([replay.md](replay.md)); `168` with `order-rail up` and in `docker-compose.yml`. `0`: no copies. "
        "The same for topology and services",
    )
    events_kept_bytes: int = Field(
        5_000_000_000,
        ge=500_000_000,
        le=10**15,
        description="the most that the stream may take on disk; the oldest events go first",
    )

    @classmethod
    def of(cls, variables: Mapping[str, str | None], **values: object) -> Self:
        """From these environment variables, and `values` of other fields. Raises pydantic's ValidationError."""
        given = {name: value for name in cls.model_fields if (value := variables.get(name.upper()))}
        return cls.model_validate({**given, **values})

    @field_validator("rabbitmq_url")
    @classmethod
    def _is_amqp(cls, value: str) -> str:
        amqp_urls(value)
        return value

    @field_validator("rabbitmq_management_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value:
            read_each(value, MANAGEMENT_SCHEMES, _check_management_url)
        return value

    def retry_delays_of(self, queue: str) -> tuple[float, ...]:
        """The delay in seconds before each further attempt at a message of a queue, given RabbitMQ's name of it."""
        own = contract.queues()[queue].retry_delays if queue in contract.queues() else None
        delays: tuple[float, ...] = getattr(self, own.variable.lower()) if own else self.retry_delays_seconds
        return delays

    def given_up_after_seconds(self, queue: str) -> float:
        """The longest that a message of a registered queue can be tried before it is parked."""
        delays = self.retry_delays_of(queue)
        attempt_seconds = contract.SECOND_TRY_SECONDS + contract.queues()[queue].attempt_seconds
        return sum(delays) + (len(delays) + 1) * attempt_seconds

    @property
    def amqp(self) -> list[AmqpUrl]:
        """The parts of RABBITMQ_URL, for each node that it lists."""
        return amqp_urls(self.rabbitmq_url)

    @property
    def vhost(self) -> str:
        """The virtual host of RABBITMQ_URL; `/` if it names none."""
        return self.amqp[0].vhost

    @property
    def management_url(self) -> str:
        """`RABBITMQ_MANAGEMENT_URL`, or port 15672 (15671 for `amqps`) of the AMQP hosts with the same users."""
        # Nodes on one host would have the same default.
        return self.rabbitmq_management_url or ",".join(dict.fromkeys(node.management_url for node in self.amqp))

    @property
    def management_urls(self) -> list[str]:
        """The URL of each node's management API."""
        return several(self.management_url, MANAGEMENT_SCHEMES)

    def management_tls(self, url: str) -> ssl.SSLContext | None:
        """For one of them, with the files of its own URL, else of RABBITMQ_URL. None for `http`."""
        parts = urlsplit(url)
        if parts.scheme == "http":
            return None
        own = tls_files(parameters(parts.query, FILES), encrypted=True)
        return (own if own.any else self.amqp[0].tls).context()


def _check_management_url(url: str) -> None:
    parts = checked_url(url, MANAGEMENT_SCHEMES, "http://user:password@host:port")
    tls_files(parameters(parts.query, FILES), encrypted=parts.scheme == "https")


def delays_variables() -> list[str]:
    """Every environment variable that sets retry delays."""
    own = [queue.retry_delays.variable for queue in contract.queues().values() if queue.retry_delays]
    return ["RETRY_DELAYS_SECONDS", *own]


def _with_delays_of_queues() -> type[_BrokerSettings]:
    """With a field for each queue whose contract names retry delays of its own."""
    own = (queue.retry_delays for queue in contract.queues().values() if queue.retry_delays)
    fields: dict[str, Any] = {
        each.variable.lower(): (Delays, Field(each.default_seconds, description=each.description)) for each in own
    }
    return create_model("BrokerSettings", __base__=_BrokerSettings, **fields)


if TYPE_CHECKING:

    class BrokerSettings(_BrokerSettings):
        """What every process that talks to RabbitMQ reads."""
else:
    BrokerSettings = _with_delays_of_queues()


class ServiceSettings(BrokerSettings):
    """The variables that every service reads. A service's own class says whose `contract` gives the defaults."""

    contract: ClassVar[ServiceContract]

    database_url: str = Field(
        repr=False,
        description="`sqlite:///folder/file.db`, or `postgresql://user:password@host:port/database` for more than one "
        "replica, also through PgBouncer in transaction mode. A SQLite file in `.run/` unless it is given",
    )
    http_host: str = Field("127.0.0.1", description="may be IPv6 (`::1`), `0.0.0.0`, or `::` for both kinds")
    http_port: int = Field(ge=0, le=65535, description="the port of the service's contract unless it is given")
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=60,
        description="how long a service that is asked to stop goes on serving, with `/readyz` at 503, so that a proxy "
        "sends its requests elsewhere; 3 in `docker-compose.yml`. Whatever kills it must wait so much longer than 10 s",
    )
    operator_token: OperatorToken = Field(
        "",
        repr=False,
        description="operators' calls need it, and are off without it. Printable ASCII; the launcher makes one up",
    )
    log_format: Literal["json", "console"] = Field("console", description="`json` or `console`")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {"database_url": f"sqlite:///.run/{cls.contract.name}.db", "http_port": cls.contract.port, **values}

    @field_validator("database_url")
    @classmethod
    def _is_database(cls, value: str) -> str:
        return checked_database_url(value)


SettingsType = TypeVar("SettingsType", bound=BaseSettings)


def load(settings_class: type[SettingsType]) -> SettingsType:
    """Read the environment, or end the process (status 2) with one line for each variable that is wrong."""
    try:
        return settings_class()
    except ValidationError as error:
        print(wrong_variables(error), file=sys.stderr)
        raise SystemExit(2) from None


def wrong_variables(error: ValidationError) -> str:
    """A line for each variable that is wrong, with its name first."""
    return "\n".join(f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors(include_url=False))


def _variable(location: tuple[int | str, ...]) -> str:
    """The environment variable of a setting; of one by service it ends in URL."""
    match location:
        case (_, str(service)):
            return contract.service(service).variable("URL")
        case (name, *_):
            return str(name).upper()
        case _:
            return "environment"

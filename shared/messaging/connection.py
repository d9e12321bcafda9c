"""A connection to RabbitMQ through pika's asyncio adapter, and `keep_connected`, which never gives up."""

import asyncio
from collections.abc import Awaitable, Callable

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import IncompatibleProtocolError, StreamLostError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from shared.amqp_url import amqp_url
from shared.messaging.channel import BrokerUnavailable, Channel, first_of, reason_of, resolve
from shared.messaging.wire import WireConnection
from shared.observability import metrics

HEARTBEAT_SECONDS = 20
OPEN_TIMEOUT_SECONDS = 10.0
MAX_RECONNECT_DELAY_SECONDS = 3.0

logger = structlog.get_logger(__name__)


class Connection:
    """One open AMQP connection. `closed` resolves with the reason; `unblocked` is clear while the broker says stop."""

    def __init__(self) -> None:
        self._pika: AsyncioConnection
        self.closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.unblocked = asyncio.Event()
        self.unblocked.set()

    @classmethod
    async def open(cls, url: str, name: str) -> "Connection":
        """Connect under `name`, which the broker's management page shows. Raises `BrokerUnavailable`."""
        self = cls()
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pika = WireConnection(
            _parameters(url, name),
            on_open_callback=lambda _connection: resolve(opened, None),
            on_open_error_callback=lambda _connection, error: resolve(self.closed, error),
            on_close_callback=lambda _connection, error: resolve(self.closed, error),
        )
        self._pika.add_on_connection_blocked_callback(lambda _connection, _frame: self.unblocked.clear())
        self._pika.add_on_connection_unblocked_callback(lambda _connection, _frame: self.unblocked.set())
        try:
            await first_of(opened, self.closed, seconds=OPEN_TIMEOUT_SECONDS)
        finally:
            if not opened.done():
                self._abandon()
        if not opened.done():
            raise _why_not(
                url, self.closed.result() if self.closed.done() else TimeoutError("connecting took too long")
            )
        metrics.connections_opened.labels(name).inc()
        return self

    async def channel(self) -> Channel:
        return await Channel.open(self._pika, self.closed)

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Close politely, and after `timeout_seconds` without the broker: pika's own close can wait for ever."""
        self._abandon()
        await asyncio.wait([self.closed], timeout=timeout_seconds)
        resolve(self.closed, BrokerUnavailable("closed by us"))

    def _abandon(self) -> None:
        if not (self._pika.is_closed or self._pika.is_closing):
            self._pika.close()


async def keep_connected(
    url: str, name: str, use: Callable[[Connection], Awaitable[None]], say: Callable[[str | None], None]
) -> None:
    """Connect, `use` the connection until that returns, and again, for ever; ends only by being cancelled.

    `say` is told why there is no connection, and None once there is one.
    """

    def explain(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        say(f"RabbitMQ is away: {error}")
        if state.attempt_number == 1:
            logger.warning("broker unavailable", connection=name, error=str(error))

    connecting = AsyncRetrying(
        wait=wait_random_exponential(multiplier=0.2, max=MAX_RECONNECT_DELAY_SECONDS),
        retry=retry_if_exception_type(BrokerUnavailable),
        before_sleep=explain,
    )
    while True:
        connection: Connection = await connecting(Connection.open, url, name)
        logger.info("broker connected", connection=name)
        say(None)
        try:
            await use(connection)
            say("RabbitMQ is away: the connection was lost")
        except BrokerUnavailable as error:
            logger.warning("broker connection lost", connection=name, error=str(error))
            say(f"RabbitMQ is away: {error}")
        except Exception:
            logger.exception("broker connection given up; another is opened", connection=name)
            await asyncio.sleep(MAX_RECONNECT_DELAY_SECONDS)
        finally:
            await connection.close()


def _why_not(url: str, error: Exception) -> BrokerUnavailable:
    """Why no connection came about. One that is cut before a word was said may be ours in the wrong language."""
    unavailable = reason_of(error)
    if isinstance(error, StreamLostError | IncompatibleProtocolError) and not amqp_url(url).is_tls:
        return BrokerUnavailable(f"{unavailable}; if that port speaks TLS, write amqps://")
    return unavailable


def _parameters(url: str, name: str) -> pika.ConnectionParameters:
    """Raises BrokerUnavailable if a file of certificates that the URL names can't be read any more."""
    try:
        broker = amqp_url(url)
        tls = pika.SSLOptions(broker.tls.context(), broker.host) if broker.is_tls else None
    except ValueError as error:
        raise BrokerUnavailable(str(error)) from None
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        ssl_options=tls,
        heartbeat=HEARTBEAT_SECONDS if broker.heartbeat_seconds is None else broker.heartbeat_seconds,
        socket_timeout=OPEN_TIMEOUT_SECONDS / 2,
        stack_timeout=OPEN_TIMEOUT_SECONDS,
        client_properties={"connection_name": name},
    )

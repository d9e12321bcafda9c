"""A connection to RabbitMQ through pika's asyncio adapter, and the component that connects again after each loss."""

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPHeartbeatTimeout, IncompatibleProtocolError, StreamLostError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from shared.amqp_url import amqp_url, node_of, node_urls
from shared.messaging.channel import BrokerUnavailable, Channel, first_of, reason_of, resolve
from shared.messaging.wire import WireConnection
from shared.observability import metrics

HEARTBEAT_SECONDS, HEARTBEAT_OF_A_CLUSTER_SECONDS = 20, 5
"""If the URL names none. In a cluster there is another node to go to; one that says nothing is lost after two."""
OPEN_TIMEOUT_SECONDS = 10.0
"""With several nodes each has its share."""
MAX_RECONNECT_DELAY_SECONDS = 3.0
AVOID_SECONDS = 30.0
"""For how long a node that said nothing is the last one to be tried."""

logger = structlog.get_logger(__name__)


_silent_at: dict[str, float] = {}
"""When a node was found to say nothing, on the clock of `time.monotonic`; what one component learned, all know."""


class Connection:
    """One open AMQP connection, to `node`.

    `closed` resolves with the reason. `unblocked` is clear while the broker blocks publishers.
    """

    def __init__(self) -> None:
        self._pika: AsyncioConnection
        self.node = ""
        self._has_others = False
        self.closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.unblocked = asyncio.Event()
        self.unblocked.set()

    @classmethod
    async def open(cls, url: str, name: str, *, lost_node: str = "") -> "Connection":
        """Connect under `name`, which the broker's management page shows. Raises `BrokerUnavailable`.

        Of several nodes to any that answers; to `lost_node`, where the last connection was lost, only if no other does,
        and still later to one that has just said nothing.
        """
        urls = node_urls(url)
        random.shuffle(urls)  # clients spread over the nodes
        urls.sort(key=lambda each: (_is_silent(node_of(each)), node_of(each) == lost_node))
        failures = []
        for each in urls:
            try:
                return await cls._open(each, name, others=len(urls) - 1)
            except BrokerUnavailable as error:
                failures.append(error)
                _silent_at[node_of(each)] = time.monotonic()
        if len(failures) == 1:
            raise failures[0]
        raise BrokerUnavailable("; ".join(f"{node_of(each)}: {why}" for each, why in zip(urls, failures, strict=True)))

    @classmethod
    async def _open(cls, url: str, name: str, others: int) -> "Connection":
        self, timeout_seconds = cls(), OPEN_TIMEOUT_SECONDS / (1 + others)
        self.node, self._has_others = node_of(url), others > 0
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pika = WireConnection(
            _parameters(url, name, timeout_seconds, HEARTBEAT_OF_A_CLUSTER_SECONDS if others else HEARTBEAT_SECONDS),
            on_open_callback=lambda _connection: resolve(opened, None),
            on_open_error_callback=lambda _connection, error: resolve(self.closed, error),
            on_close_callback=lambda _connection, error: self._note_closed(error),
        )
        self._pika.add_on_connection_blocked_callback(lambda _connection, _frame: self.unblocked.clear())
        self._pika.add_on_connection_unblocked_callback(lambda _connection, _frame: self.unblocked.set())
        try:
            await first_of(opened, self.closed, seconds=timeout_seconds)
        finally:
            if not opened.done():
                self._begin_close()
        if not opened.done():
            reason = self.closed.result() if self.closed.done() else TimeoutError("connecting took too long")
            raise _refusal(url, reason)
        metrics.connections_opened.labels(name).inc()
        return self

    def _note_closed(self, error: Exception) -> None:
        if isinstance(error, AMQPHeartbeatTimeout):
            _silent_at[self.node] = time.monotonic()
        resolve(self.closed, error)

    async def channel(self) -> Channel:
        return await Channel.open(self._pika, self.closed)

    def leave(self, reason: str) -> None:
        """End the connection if there are other nodes to go to: this one may be paused, or cut off from them."""
        if self._has_others:
            resolve(self.closed, BrokerUnavailable(f"{self.node}: {reason}"))

    def cut(self) -> None:
        """End it without a word to the broker.

        Then RabbitMQ first takes back what was not acknowledged, and gives it, in sequence, to the next consumer. Where
        a channel or a connection is closed in order, the next consumer gets later messages before those.
        """
        self._pika.cut()

    async def close(self, timeout_seconds: float = 2.0) -> None:
        """Close, and wait for the broker's answer at most `timeout_seconds`: pika's own close can wait for ever."""
        self._begin_close()
        await asyncio.wait([self.closed], timeout=timeout_seconds)
        resolve(self.closed, BrokerUnavailable("closed by us"))

    def _begin_close(self) -> None:
        if not (self._pika.is_closed or self._pika.is_closing):
            self._pika.close()


def _is_silent(node: str) -> bool:
    return time.monotonic() < _silent_at.get(node, -math.inf) + AVOID_SECONDS


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[Connection]:
    """A connection for the length of the block. Raises `BrokerUnavailable`."""
    connection = await Connection.open(url, name)
    try:
        yield connection
    finally:
        await connection.close()


class ConnectedComponent(ABC):
    """A component of a service that uses one connection, and opens another whenever that one is lost."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name
        self._problem: str | None = "RabbitMQ is away: not connected yet"
        self._lost_node = ""
        self._connecting: asyncio.Task[None] | None = None

    @abstractmethod
    async def _use(self, connection: Connection) -> None:
        """Work over the connection until it closes."""

    async def start(self) -> None:
        self._connecting = asyncio.create_task(self._keep_connected(), name=self._name)

    async def stop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)

    def problem(self) -> str | None:
        """Why this component cannot work now, or None."""
        return self._problem

    async def _keep_connected(self) -> None:
        connecting = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=MAX_RECONNECT_DELAY_SECONDS),
            retry=retry_if_exception_type(BrokerUnavailable),
            before_sleep=self._note_failed_attempt,
        )
        while True:
            connection: Connection = await connecting(Connection.open, self._url, self._name, lost_node=self._lost_node)
            self._lost_node = connection.node
            connected_gauge = metrics.connected.labels(self._name, connection.node)
            connected_gauge.set(1)
            logger.info("broker.connected", connection=self._name, node=connection.node)
            self._problem = None
            try:
                await self._use(connection)
                self._problem = "RabbitMQ is away: the connection was lost"
            except BrokerUnavailable as error:
                logger.warning("broker.connection_lost", connection=self._name, node=connection.node, error=str(error))
                self._problem = f"RabbitMQ is away: {error}"
            except Exception:
                logger.exception("broker.connection_failed", connection=self._name)
                await asyncio.sleep(MAX_RECONNECT_DELAY_SECONDS)
            finally:
                connected_gauge.set(0)
                await connection.close()

    def _note_failed_attempt(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._problem = f"RabbitMQ is away: {error}"
        if state.attempt_number == 1:
            logger.warning("broker.unavailable", connection=self._name, error=str(error))


def _refusal(url: str, reason: Exception) -> BrokerUnavailable:
    """Why no connection was made. One that is cut before any answer may be ours without TLS to a port with TLS."""
    unavailable = reason_of(reason)
    if isinstance(reason, StreamLostError | IncompatibleProtocolError) and not amqp_url(url).is_tls:
        return BrokerUnavailable(f"{unavailable}; if that port speaks TLS, write amqps://")
    return unavailable


def _parameters(
    url: str, name: str, timeout_seconds: float = OPEN_TIMEOUT_SECONDS, heartbeat_seconds: int = HEARTBEAT_SECONDS
) -> pika.ConnectionParameters:
    """Raises `BrokerUnavailable` if a certificate file that the URL names can no longer be read."""
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
        heartbeat=heartbeat_seconds if broker.heartbeat_seconds is None else broker.heartbeat_seconds,
        socket_timeout=timeout_seconds / 2,
        stack_timeout=timeout_seconds,
        client_properties={"connection_name": name},
    )

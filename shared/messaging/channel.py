"""An AMQP channel whose calls can be awaited, and the errors of the connection to the broker.

pika answers through callbacks, and an exception inside a callback aborts the connection. So the callbacks here only
resolve a future or pass a plain object on; everything else happens in tasks.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from shared.messaging.message import Delivery, Message

CALL_TIMEOUT_SECONDS = 10.0


class BrokerUnavailable(Exception):
    """RabbitMQ can't be reached, or the connection or channel in use has closed."""


class NotFound(BrokerUnavailable):
    """The broker has no such queue or exchange: the topology has not been applied."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """`messages` counts those ready for delivery, without those that a consumer holds."""

    messages: int
    consumers: int


class Channel:
    """One open channel. `closed` resolves with the reason; a call on a closed channel raises `BrokerUnavailable`."""

    def __init__(self) -> None:
        self._pika: PikaChannel
        self.closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, connection: AsyncioConnection, connection_closed: "asyncio.Future[Exception]") -> "Channel":
        self = cls()
        connection_closed.add_done_callback(lambda closed: resolve(self.closed, closed.result()))

        def open_channel(callback: Callable[[Any], None]) -> None:
            self._pika = connection.channel(on_open_callback=callback)
            self._pika.add_on_close_callback(lambda _channel, reason: resolve(self.closed, reason))

        await self._call(open_channel)
        return self

    @property
    def is_open(self) -> bool:
        return not self.closed.done() and self._pika.is_open

    async def qos(self, prefetch: int) -> None:
        await self._call(self._pika.basic_qos, prefetch_count=prefetch)

    async def confirm_select(self, on_confirm: Callable[[int, bool, bool], None],
                             on_return: Callable[[str | None], None]) -> None:  # fmt: skip
        """Turn publisher confirms on. `on_return(message_id)` precedes the `on_confirm(sequence, multiple, acked)`."""
        self._pika.add_on_return_callback(lambda _channel, _method, properties, _body: on_return(properties.message_id))
        await self._call(
            self._pika.confirm_delivery,
            ack_nack_callback=lambda confirm: on_confirm(
                confirm.method.delivery_tag, confirm.method.multiple, isinstance(confirm.method, spec.Basic.Ack)
            ),
        )

    async def expect_exchange(self, exchange: str) -> None:
        """Raises `NotFound` (and the broker closes the channel) if there is no such exchange."""
        await self._call(self._pika.exchange_declare, exchange=exchange, passive=True)

    async def inspect(self, queue: str) -> QueueState:
        """The state of a queue. Raises `NotFound` if there is no such queue."""
        declared = (await self._call(self._pika.queue_declare, queue=queue, passive=True)).method
        return QueueState(declared.message_count, declared.consumer_count)

    async def consume(
        self, queue: str, on_delivery: Callable[[Delivery], None], arguments: Mapping[str, Any] | None = None
    ) -> str:
        """Start a consumer; returns its tag, a new one each time. A cancel by the broker closes the channel."""
        loop = asyncio.get_running_loop()
        self._pika.add_on_cancel_callback(
            lambda _frame: loop.call_soon(self.discard, "consumer cancelled by the broker")
        )
        return await self._consume(queue, on_delivery, arguments=arguments)

    async def listen(self, exchange: str, routing_key: str, on_delivery: Callable[[Delivery], None]) -> None:
        """Receive what is published from now on, at most once, through a queue that ends with the connection.

        Raises `NotFound` if there is no such exchange.
        """
        queue = (await self._call(self._pika.queue_declare, queue="", exclusive=True)).method.queue
        await self._call(self._pika.queue_bind, queue=queue, exchange=exchange, routing_key=routing_key)
        await self._consume(queue, on_delivery, auto_ack=True)

    async def _consume(
        self,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        auto_ack: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        consume_ok = await self._call(
            self._pika.basic_consume,
            queue=queue,
            auto_ack=auto_ack,
            arguments=arguments,
            on_message_callback=lambda _channel, method, properties, body: on_delivery(
                _delivery(method, properties, body)
            ),
        )
        return str(consume_ok.method.consumer_tag)

    async def cancel(self, consumer_tag: str) -> None:
        await self._call(self._pika.basic_cancel, consumer_tag=consumer_tag)

    def publish(self, message: Message) -> None:
        """Send the message, persistent and mandatory. Raises `BrokerUnavailable` if the channel is closed."""
        try:
            self._pika.basic_publish(
                message.exchange, message.routing_key, message.body, _properties(message), mandatory=True
            )
        except AMQPError as error:
            raise reason_of(error) from error

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Acknowledge a delivery, or all up to it. On a closed channel nothing happens: the broker redelivers."""
        if self.is_open:
            self._pika.basic_ack(tag, multiple)

    async def close(self) -> None:
        """Close and wait for the broker's answer, within the call timeout."""
        if self.is_open:
            self._pika.close()
        await asyncio.wait([self.closed], timeout=CALL_TIMEOUT_SECONDS)

    def discard(self, reason: str) -> None:
        """Close without waiting: the broker redelivers what is not acknowledged."""
        if not self.closed.done():
            self.closed.set_result(BrokerUnavailable(reason))
        if self._pika.is_open:
            self._pika.close()

    async def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        """Call a method of pika, and return its answer. Raises the reason if the channel closes instead."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            method(**arguments, callback=lambda frame: resolve(answer, frame))
        except AMQPError as error:
            raise reason_of(error) from error
        await first_of(answer, self.closed, seconds=CALL_TIMEOUT_SECONDS)
        if answer.done():
            return answer.result()
        if self.closed.done():
            raise reason_of(self.closed.result())
        self.discard("no answer from the broker")
        raise BrokerUnavailable(f"no answer to {method.__name__} within {CALL_TIMEOUT_SECONDS:g} s")


def _properties(message: Message) -> spec.BasicProperties:
    return spec.BasicProperties(
        content_type=message.content_type,
        message_id=message.message_id,
        type=message.type,
        app_id=message.app_id,
        timestamp=message.timestamp,
        delivery_mode=2,
        headers=dict(message.headers) or None,
        expiration=None if message.expires_after_milliseconds is None else str(message.expires_after_milliseconds),
    )


def _delivery(method: Any, properties: Any, body: bytes) -> Delivery:
    return Delivery(
        tag=method.delivery_tag,
        redelivered=method.redelivered,
        message=Message(
            exchange=method.exchange,
            routing_key=method.routing_key,
            body=body,
            message_id=properties.message_id,
            type=properties.type,
            app_id=properties.app_id,
            timestamp=properties.timestamp,
            content_type=properties.content_type,
            headers=properties.headers or {},
        ),
        undecodable=getattr(properties, "undecodable", None),
    )


async def first_of(*futures: "asyncio.Future[Any]", seconds: float) -> None:
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def reason_of(error: BaseException) -> BrokerUnavailable:
    if isinstance(error, BrokerUnavailable):
        return error
    if isinstance(error, ChannelClosedByBroker) and error.reply_code == 404:
        return NotFound(error.reply_text)
    unavailable = BrokerUnavailable(_text(error))
    unavailable.__cause__ = error
    return unavailable


def _text(error: BaseException) -> str:
    """The innermost message, without a number: pika wraps a refused connection in up to four exceptions."""
    inner = getattr(error, "exceptions", None) or getattr(error, "exception", None) or error.args[:1]
    if isinstance(inner, Sequence) and inner:
        inner = inner[-1]
    if isinstance(inner, BaseException):
        return _text(inner)
    return re.sub(r"\[Errno -?\d+\] ", "", str(error)) or type(error).__name__

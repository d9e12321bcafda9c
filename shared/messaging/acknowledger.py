"""Acknowledgements, collected: the only ones in the code base."""

import asyncio

from shared.messaging.channel import Channel


class Acknowledger:
    """Acknowledges the deliveries of one channel generation, many with one frame where they are neighbours.

    Once the channel is closed its tags mean nothing: outcomes are dropped, and the broker redelivers.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
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
        """Give every unsettled delivery of this channel back to the broker, by closing it."""
        self._channel.discard("a delivery could not be settled")

    def _flush(self) -> None:
        """One `multiple` for the settled prefix; single ones behind the first gap, so that no one waits for it."""
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

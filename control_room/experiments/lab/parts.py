"""Order Rail's own parts, as its way uses them; what they publish and settle is recorded."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from control_room.experiments.lab import record
from control_room.experiments.lab.shop import Shop
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher, PublishError, Refused, Unroutable
from shared.observability import delivery_log
from shared.observability.delivery_log import Note
from shared.service import Component


@asynccontextmanager
async def running(shop: Shop, *components: Component) -> AsyncIterator[None]:
    """The components run, and what they publish and settle is recorded."""

    def write_down(note: Note) -> None:
        order = int(note.order_id[:8], 16) if note.order_id else None
        if note.act == "published" and note.outcome == "confirmed" and note.place == shop.exchange:
            shop.record(record.PUBLISHED, order, confirmed=True)
        elif note.act == "handled":
            shop.record(record.SETTLED, order, outcome=note.outcome)

    delivery_log.listen(write_down)
    for component in components:
        await component.start()
    yield
    for component in reversed(components):
        await component.stop()


class LabPublisher(Publisher):
    """The relay forgets an event that no contract names a queue for; those of the lab are to wait for their queue."""

    async def publish_all(self, messages: Sequence[Message]) -> list[PublishError | BrokerUnavailable | None]:
        errors = await super().publish_all(messages)
        return [Refused(str(error)) if isinstance(error, Unroutable) else error for error in errors]

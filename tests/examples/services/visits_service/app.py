"""The service that counts visits, put together."""

from shared.assemble import Assembly
from shared.events import OrderPlaced
from shared.http.audit import AuditSource
from shared.http.prune import Prunable
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.service import Service
from shared.settings import ServiceSettings
from visits_service import store
from visits_service.contract import CONTRACT


class Settings(ServiceSettings):
    """The environment of the service."""

    contract = CONTRACT


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    assembly = Assembly(CONTRACT, settings, store.metadata, description="Which visit of its customer an order was.")
    database = assembly.database

    async def count(event: OrderPlaced, attempt: int) -> Ack:
        order = store.Order(event.subject, event.data.order.customer_email)
        return DONE if await database.write(store.record, order) else DUPLICATE

    assembly.consume([Subscription(CONTRACT.queue_name("count"), handlers={OrderPlaced: count}, concurrency=50)])
    audit = AuditSource(database, store.pages, lambda row: {"kind": "visit", **row._mapping})
    assembly.serve(None, audit=[audit], prune=[Prunable(database, store.prune)])
    return assembly.service()

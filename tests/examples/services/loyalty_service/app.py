"""The loyalty service, put together."""

from loyalty_service import store
from loyalty_service.contract import CONTRACT
from loyalty_service.handlers import subscriptions
from shared.assemble import Assembly
from shared.http.audit import AuditSource
from shared.http.prune import Prunable
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The loyalty service's environment."""

    contract = CONTRACT


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    assembly = Assembly(CONTRACT, settings, store.metadata, description="Points that paid orders earned.")
    database = assembly.database
    assembly.consume(subscriptions(database))
    shape = lambda row: {"kind": "points", "order_id": row.order_id, "points": row.points}  # noqa: E731
    audit, prune = AuditSource(database, store.pages, shape), Prunable(database, store.prune)
    assembly.serve(None, audit=[audit], prune=[prune])
    return assembly.service()

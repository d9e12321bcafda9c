"""The herald service, put together: what is its own; the rest is `shared/assemble.py`."""

from pydantic import Field

from herald_service import api, store
from herald_service.contract import CONTRACT
from herald_service.handlers import subscriptions
from shared.assemble import Assembly
from shared.http.prune import Prunable
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The herald service's environment."""

    contract = CONTRACT
    herald_concurrency: int = Field(default=100, ge=1, le=2000, description="events handled at once")


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    assembly = Assembly(
        CONTRACT, settings, store.metadata, store.outbox, description="What was made of each order's event."
    )
    database = assembly.database
    assembly.consume(subscriptions(database, settings.herald_concurrency))
    assembly.serve(database, api.router, audit=[api.audit_source(database)], prune=[Prunable(database, store.prune)])
    return assembly.service()

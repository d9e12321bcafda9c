"""The greeting service, put together: what is its own; the rest is `shared/assemble.py`."""

from pydantic import Field

from greeting_service import api, store
from greeting_service.contract import CONTRACT
from greeting_service.handlers import subscriptions
from shared.assemble import Assembly
from shared.http.prune import Prunable
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The greeting service's environment."""

    contract = CONTRACT
    greeting_concurrency: int = Field(default=100, ge=1, le=2000, description="greetings written at once")


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    assembly = Assembly(
        CONTRACT, settings, store.metadata, store.outbox, description="Takes greetings, and says what became of them."
    )
    database = assembly.database
    assembly.consume(subscriptions(database, settings.greeting_concurrency))
    assembly.serve(database, api.router, audit=[api.audit_source(database)], prune=[Prunable(database, store.prune)])
    return assembly.service()

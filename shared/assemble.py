"""A service from its components: what every service has is put together here, in the order in which it starts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from shared.breaker import Breaker
from shared.contract import ContractError, ServiceContract, patterns
from shared.controls import controls
from shared.events import Event
from shared.http.application import create_app
from shared.http.audit import Source, audit_router
from shared.http.prune import HorizonOf, Prunable, no_limit, prune_router
from shared.http.server import HttpServer
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Handler, Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import Ack
from shared.messaging.stream import StreamWriter
from shared.persistence.batcher import Operation
from shared.persistence.database import Database
from shared.persistence.milestones import expect_kept, is_pruned
from shared.persistence.outbox import Outbox, Tables
from shared.persistence.relay import OutboxRelay
from shared.service import Component, Service
from shared.settings import ServiceSettings


class Assembly:
    """Takes what is a service's own, and makes the service: `consume`, `serve`, then `service`."""

    def __init__(
        self,
        contract: ServiceContract,
        settings: ServiceSettings,
        tables: Tables,
        outbox: Outbox | None = None,
        *,
        description: str,
        schemas: Sequence[type[BaseModel]] = (),
    ) -> None:
        """`description` of its HTTP calls. `schemas`: models that its OpenAPI description names by reference alone."""
        self._contract, self._settings, self._outbox = contract, settings, outbox
        self.database = Database(settings.database_url, tables, name=contract.label)
        exchanges = [contract.exchange] if outbox else []
        self.publisher = Publisher(settings.rabbitmq_url, contract.name, exchanges=exchanges)
        self.app = create_app(
            title=contract.title, description=description, operator_token=settings.operator_token, schemas=schemas
        )
        self.consumer: Consumer

    def consume(self, subscriptions: Sequence[Subscription]) -> None:
        """Raises `ContractError` if the subscriptions differ from the contract's queues, or from their bindings."""
        check(self._contract, subscriptions)
        self.consumer = Consumer(
            self._settings.rabbitmq_url,
            self._contract.name,
            [
                _without_pruned(partition, self.database)
                for each in subscriptions
                for partition in by_partition(self._contract, each)
            ],
            self.publisher,
            self._settings.retry_delays_of,
        )

    def serve(
        self,
        resources: object,
        *routers: APIRouter,
        audit: Sequence[Source],
        prune: Sequence[Prunable],
        horizon_of: HorizonOf = no_limit,
    ) -> None:
        """Answer the calls of the routers, which find `resources` in the application's state, and operators' calls.

        `audit`: what `GET /audit` streams. `prune`: what `POST /prune` deletes, in this order, up to `horizon_of`.
        """
        self.app.state.resources = resources
        for router in (*routers, audit_router(audit), prune_router(self.database, prune, horizon_of)):
            self.app.include_router(router)

    def service(
        self,
        *,
        before: Sequence[Component] = (),
        after: Sequence[Component] = (),
        breakers: Sequence[Breaker] = (),
        throttled_for: Operation[Any, Any] | None = None,
    ) -> Service:
        """The service. `before`: components that its handlers need, started before the consumer; `after`: the rest.

        `breakers`: those around the calls of outside systems, for `/readyz`.
        `throttled_for`: the operation whose load makes the outbox relay leave the processor to it.
        """
        settings, name = self._settings, self._contract.name
        components: list[Component] = [self.database, *before, self.publisher]
        if self._outbox is not None:
            stream = StreamWriter(settings.rabbitmq_url, name) if settings.events_kept_hours else None
            components += [stream] if stream else []
            components.append(
                OutboxRelay(self.database, self._outbox, self.publisher, throttled_for=throttled_for, stream=stream)
            )
        components += [self.consumer, *after, *controls(settings, name, self.consumer)]
        http = HttpServer(self.app, settings.http_host, settings.http_port)
        return Service(components, http, breakers, settings.drain_seconds)


def by_partition(contract: ServiceContract, subscription: Subscription) -> list[Subscription]:
    """The subscription to each partition of its queue; itself where the queue has none."""
    queue = contract.queue(subscription.queue.removeprefix(f"{contract.name}."))
    if queue.partitions is None:
        return [subscription]
    header = queue.partitions.header
    return [replace(subscription, queue=name, key_header=header) for name in contract.names_of(queue)]


def _without_pruned(subscription: Subscription, database: Database) -> Subscription:
    """The subscription; an event whose subject's records are pruned becomes a dead letter, and nothing is done.

    No record would tell whether it is a duplicate: its effect would come again.
    """

    def guarded(handler: Handler) -> Handler:
        async def handle(event: Event, attempt: int) -> Ack:
            await expect_kept(database, event.subject)
            return await handler(event, attempt)

        return handle

    async def give_up(event: Event, attempts: int, error: str) -> bool:
        if subscription.give_up is None or await is_pruned(database, event.subject):
            return True
        return await subscription.give_up(event, attempts, error)

    handlers = {event: guarded(handler) for event, handler in subscription.handlers.items()}
    return replace(subscription, handlers=handlers, give_up=give_up)


def check(contract: ServiceContract, subscriptions: Sequence[Subscription]) -> None:
    """Raises `ContractError` unless there is one for each queue, and each handler's event is bound to its queue."""
    queues = {contract.queue_name(queue.name): queue for queue in contract.queues}
    subscribed = {subscription.queue: subscription for subscription in subscriptions}
    if queues.keys() != subscribed.keys():
        raise ContractError(f"{contract.name}: its contract has {sorted(queues)}, its handlers {sorted(subscribed)}")
    for name, subscription in subscribed.items():
        bound = patterns(queues[name])
        for event in subscription.handlers:
            # Any version: a binding to one version alone would leave the next one unroutable.
            if not any(pattern.matches(f"{event.family()}.v0") for pattern in bound):
                keys = [pattern.key for pattern in bound]
                raise ContractError(f"{name} has a handler for {event.type_name()}, and takes only {keys}")

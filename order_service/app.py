"""The order service, put together: the only file that knows every part."""

from pydantic import Field

from order_service import api, shop, store
from order_service.handlers import Tracking, subscriptions
from order_service.live import Changes, LiveTimelines
from order_service.orders import OrderRequest, SweepDelays
from order_service.sweep import Sweeper
from shared.controls import controls
from shared.http.application import create_app
from shared.http.server import HttpServer
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.persistence.database import Database
from shared.persistence.relay import OutboxRelay
from shared.service import Service
from shared.settings import ServiceSettings
from shared.topology import given_up_after_seconds
from shared.topology.definition import SUBSCRIPTIONS

REPORT_SECONDS = 10.0
"""Added to each sweep delay for the way of a report to this service: an outbox, the broker, a queue."""


class Settings(ServiceSettings):
    """The order service's environment."""

    database_url: str = "sqlite:///.run/order_service.db"
    http_port: int = Field(default=8000, ge=0, le=65535)
    sweep_after_seconds: float | None = Field(default=None, ge=1, le=86400)
    """None: each queue's delay is as long as its messages can be tried, so that no attempt begins beside another."""

    @property
    def sweep_delays(self) -> SweepDelays:
        """How long the sweep waits for the report of each queue's consumer."""
        return SweepDelays({queue: self.sweep_after_seconds or self._given_up_after(queue) for queue in SUBSCRIPTIONS})

    def _given_up_after(self, queue: str) -> float:
        return given_up_after_seconds(queue, self.retry_delays_of(queue)) + REPORT_SECONDS


def build(settings: Settings) -> Service:
    """Every part, in the order in which it starts."""
    changes = Changes()
    database = Database(settings.database_url, store.metadata, name="orders")
    publisher = Publisher(settings.rabbitmq_url, "order_service", exchanges=["orders"])
    relay = OutboxRelay(database, store.outbox, publisher, stands_back_for=store.place)
    consumer = Consumer(
        settings.rabbitmq_url,
        "order_service",
        subscriptions(Tracking(database, changes, settings.sweep_delays)),
        publisher,
        settings.retry_delays_of,
    )
    app = create_app(
        title="Order service",
        description=api.DESCRIPTION,
        operator_token=settings.operator_token,
        schemas=[OrderRequest],
    )
    app.state.parts = api.Parts(database, LiveTimelines(database, changes, app.state.stopping.is_set))
    app.include_router(api.router)
    app.add_short_cut("POST", "/orders", api.place_order)
    app.include_router(shop.router)
    return Service(
        [
            database,
            publisher,
            relay,
            consumer,
            Sweeper(database, consumer, settings.sweep_delays),
            *controls(settings, "order_service", consumer),
        ],
        HttpServer(app, settings.http_host, settings.http_port),
    )

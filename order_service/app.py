"""The order service, put together: what is its own; the rest is `shared/assemble.py`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from order_service import api, shop, store
from order_service.cancelling import PaymentTimeout
from order_service.contract import CONTRACT
from order_service.handlers import Tracking, subscriptions
from order_service.live import Changes, LiveTimelines
from order_service.orders import CancellationRules, OrderRequest, SweepDelays
from order_service.pruning import SettledOrders
from order_service.pruning.store import prune_duplicates, prune_orders
from order_service.sweep import Sweeper
from order_service.sweep.after_restore import AfterRestore
from shared.assemble import Assembly
from shared.contract import queues_taking
from shared.events import OrderPlaced, PaymentSucceeded
from shared.http.prune import Prunable
from shared.service import Component, Service
from shared.settings import ServiceSettings
from shared.urls import public_url

REPORT_SECONDS = 10.0
"""Added to each sweep delay: the time of a report from its service's outbox to this service."""


class Settings(ServiceSettings):
    """The order service's environment."""

    contract = CONTRACT
    sweep_after_seconds: float | None = Field(
        default=None,
        ge=1,
        le=86400,
        description="after how long without a report an order's event is re-emitted. By default as long as a message "
        "can be tried: two minutes, or over an hour where only a notice is missing. A number counts for all queues; a "
        "shorter one starts a second chain of attempts beside the first",
    )
    cancel_within_seconds: float = Field(
        default=900,
        ge=0,
        le=30 * 86400,
        description="how long after its placement an order can be cancelled. A stalled order always can be",
    )
    payment_timeout_seconds: float | None = Field(
        default=None,
        ge=1,
        le=30 * 86400,
        description="an order that is not paid by then is cancelled, also a stalled one. Off without a number",
    )
    control_room_url: Annotated[str, AfterValidator(public_url)] = Field(
        "", description="where people reach the control room, such as `http://localhost:8080`: the shop links to it"
    )

    @property
    def sweep_delays(self) -> SweepDelays:
        """How long the sweep waits for the report of each queue's consumer, by the queue's short name."""
        queues = queues_taking(OrderPlaced) | queues_taking(PaymentSucceeded)
        return SweepDelays({queue.name: self._sweep_delay(name) for name, queue in queues.items()})

    def _sweep_delay(self, queue_name: str) -> float:
        return self.sweep_after_seconds or self.given_up_after_seconds(queue_name) + REPORT_SECONDS


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    assembly = Assembly(
        CONTRACT, settings, store.metadata, store.outbox, description=api.DESCRIPTION, schemas=[OrderRequest]
    )
    database, changes = assembly.database, Changes()
    assembly.consume(subscriptions(Tracking(database, changes, settings.sweep_delays)))
    live = LiveTimelines(database, changes, assembly.app.state.stopping.is_set)
    rules = CancellationRules(settings.cancel_within_seconds)
    resources = api.Resources(database, live, changes, rules, settings.sweep_delays)
    assembly.serve(
        resources,
        api.router,
        shop.router(settings.control_room_url),
        audit=[api.audit_source(database)],
        prune=[Prunable(database, prune_orders), Prunable(database, prune_duplicates)],
        horizon_of=SettledOrders(database, rules).horizon,
    )
    assembly.app.add_short_cut("POST", "/orders", api.place_order)
    background: list[Component] = [
        AfterRestore(database, assembly.consumer),
        Sweeper(database, assembly.consumer, settings.sweep_delays),
    ]
    if after_seconds := settings.payment_timeout_seconds:
        background.append(PaymentTimeout(database, assembly.consumer, changes, settings.sweep_delays, after_seconds))
    return assembly.service(after=background, throttled_for=store.place)

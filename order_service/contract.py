"""What the order service is to the others."""

from shared.contract import Page, Pattern, QueueContract, ServiceContract, Stage
from shared.events import OrderCancelled, OrderPlaced

FINAL_STATUSES = ("confirmed", "declined", "cancelled", "refunded")
"""The statuses of an order that no other follows, unless it is cancelled."""

CONTRACT = ServiceContract(
    name="order_service",
    title="Order service",
    port=8000,
    exchange="orders",
    publishes=(OrderPlaced, OrderCancelled),
    queues=(
        QueueContract(
            "track",
            title="Reports to the order service",
            takes=(Pattern("payments", "payment.#"), Pattern("notifications", "notification.#")),
        ),
    ),
    page=Page("Shop", variable="SHOP_URL"),
    stages=(
        Stage(
            "orders accepted",
            label="accepted",
            counter="order_rail_orders_accepted_total",
            without_broker="Orders are still taken and wait in the outbox.",
        ),
    ),
    crash_points={"committed-not-answered": "order_service.api:_accepted"},
)

"""What the order service is to the others."""

from shared.contract import Pattern, QueueContract, ServiceContract
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
    crash_points={"committed-not-answered": "order_service.api:_accepted"},
)

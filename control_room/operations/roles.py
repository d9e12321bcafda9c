"""Which service and which queue plays which part in what the control room shows, compares and breaks on purpose.

The one module of the control room that names them. All that holds for every service derives from
`shared.contract.services()` instead, so that one more service needs no change here.
"""

from order_service.contract import FINAL_STATUSES
from shared.contract import service

ORDERS = service("order_service")
PAYMENTS = service("payment_service")
NOTIFICATIONS = service("notification_service")

TRACK = ORDERS.queue_name("track")
CHARGE = PAYMENTS.queue_name("charge")
EMAIL = NOTIFICATIONS.queue_name("email")
RESTAURANT = NOTIFICATIONS.queue_name("restaurant")

FINAL = FINAL_STATUSES
TAKEN_BACK = ("cancelled", "refunded")
"""The statuses of an order whose cancellation was carried out: not charged, or the money is back."""
FINAL_OR_STALLED = (*FINAL, "stalled")
"""The order statuses in which the services do nothing more by themselves: a stalled order waits for a redrive."""


def channel_queue(channel: str) -> str:
    """The queue of a notification channel, such as `email`."""
    return NOTIFICATIONS.queue_name(channel)

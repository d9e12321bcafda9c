"""Takes orders, answers at once, and tracks each order until it is final.

Owns: orders, their timelines, idempotency keys of `POST /orders`, the menu.
Publishes: `order.placed.v1` and `order.cancelled.v1` to `orders`.
Consumes: every event of `payments` and `notifications` from `order_service.track`.
"""

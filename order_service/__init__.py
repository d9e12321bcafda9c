"""Takes orders, answers at once, and follows them to their end.

Owns: orders, their timelines, idempotency keys of `POST /orders`, the menu.
Publishes: `order.placed.v1` to `orders`.
Consumes: `order_service.track`, every event of `payments` and `notifications`.
"""

"""Charges each order once, refunds or voids a cancelled one, and publishes the result.

Owns: payments. The simulated gateway has a database of its own, as it stands for an outside system.
Consumes: `order.placed.v1` and `order.cancelled.v1` from `payment_service.charge`.
Publishes: `payment.succeeded.v1`, `.declined.v1`, `.stalled.v1`, `.voided.v1` and `.refunded.v1` to `payments`.
"""

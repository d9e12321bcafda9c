"""Charges each order once, and publishes the result.

Owns: payments. The simulated gateway has a database of its own, as it stands for an outside system.
Consumes: `order.placed.v1` from `payment_service.charge`.
Publishes: `payment.succeeded.v1`, `payment.declined.v1`, `payment.stalled.v1` to `payments`.
"""

"""Charges orders, each once, and says how it went.

Owns: payments. The simulated gateway keeps a ledger of its own, as the outside system that it stands for would.
Consumes: `payment_service.charge`, the event `order.placed.v1`.
Publishes: `payment.succeeded.v1`, `payment.declined.v1`, `payment.stalled.v1` to `payments`.
"""

"""Keeps an entry of each order for `payment.succeeded.v1`.

Owns: the entries. Consumes: `diary_service.work`. Publishes nothing.
"""

"""Does its work once for each `payment.succeeded.v1`, keeps an entry of it, and publishes `herald.announced.v1`.

Owns: the entries. Consumes: `herald_service.work`. Publishes: `herald.announced.v1` to `herald`.
"""

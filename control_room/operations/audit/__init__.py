"""`order-rail audit`: reconcile every accepted order with payments, notifications, queues and dead letters.

`reading.py` copies what the services and the broker say into a temporary database, so that memory stays bounded
however many orders there are. `reconciliation.py` is that database, and `invariants.py` what must be true of it.
`in_flight.py` counts the messages that are on their way, `auditor.py` carries the audit out, `report.py` is its result.
"""

from control_room.operations.audit.auditor import audit
from control_room.operations.audit.report import AuditImpossible, AuditReport, Check, Violation

__all__ = ["AuditImpossible", "AuditReport", "Check", "Violation", "audit"]

"""`order-rail audit`: reconcile every accepted order with payments, notifications, queues and dead letters.

`reading.py` copies what the services and the broker say into books, a temporary database of our own, so that memory
stays bounded however many orders there are; `store.py` holds the books, `invariants.py` what must be true of
them; `report.py` says what came of it, `auditor.py` runs it all, `display.py` and `command.py` show it.
"""

from control_room.operations.audit.auditor import audit
from control_room.operations.audit.report import AuditImpossible, AuditReport, Check, Violation

__all__ = ["AuditImpossible", "AuditReport", "Check", "Violation", "audit"]

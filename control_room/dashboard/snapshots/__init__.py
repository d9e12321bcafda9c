"""What the control room watches, once for all its viewers: a page only reads the latest snapshot.

`observer.py` looks at the services (`services.py`) and the broker (`broker.py`) every second and makes a `Snapshot` of
it (`snapshot.py`); `drain.py` predicts when the rail will be empty. `auditing.py` audits again and again in the
background, `dead_letters.py` knows the dead letters.
"""

from control_room.dashboard.snapshots.auditing import Auditing
from control_room.dashboard.snapshots.dead_letters import DeadLetterView
from control_room.dashboard.snapshots.observer import Observer
from control_room.dashboard.snapshots.snapshot import Point, QueueView, ServiceView, Snapshot

__all__ = ["Auditing", "DeadLetterView", "Observer", "Point", "QueueView", "ServiceView", "Snapshot"]

"""What the control room watches, once for all its viewers: a page only reads the latest picture.

`observer.py` looks at the services (`services.py`) and the broker (`broker.py`) every second and makes a `Picture` of
it (`picture.py`); `drain.py` predicts when the rail will be empty. `auditing.py` audits again and again in the
background, `desk.py` knows the dead letters.
"""

from control_room.dashboard.snapshots.auditing import Auditing
from control_room.dashboard.snapshots.desk import Desk
from control_room.dashboard.snapshots.observer import Observer
from control_room.dashboard.snapshots.snapshot import Picture, Point, QueueView, ServiceView

__all__ = ["Auditing", "Desk", "Observer", "Picture", "Point", "QueueView", "ServiceView"]

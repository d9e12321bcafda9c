"""The control room's page: the state of a running system, live, for one viewer or many.

`room.py` holds what all viewers share, `server.py` serves it, `access.py` decides who may change something, `layout.py`
arranges the panels, which have a file each. A panel reads the observer's latest snapshot and never the system itself,
so fifty viewers cost the system as much as one.
"""

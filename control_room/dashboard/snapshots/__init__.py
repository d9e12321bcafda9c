"""What the dashboard knows of the system, gathered once for all viewers: a page only reads it.

`observer.py` reads the services (`services.py`) and the broker (`broker.py`) every second and makes a `Snapshot` of it
(`snapshot.py`). `drain.py` predicts when a backlog will be gone. `auditing.py` runs the audit in the background,
`dead_letters.py` keeps a list of the dead letters.
"""

"""`order-rail chaos`: the whole system under load while faults are injected, and an audit afterwards.

`schedule.py` draws from the seed which fault is injected when; `customers.py` places the orders and keeps a journal of
those that were accepted; `faults/` holds the faults, and `system.py` what they act on; `watch.py` looks at the system
from outside; `run.py` runs it all, `report.py` judges it, `display.py` shows it, `command.py` is the command.
"""

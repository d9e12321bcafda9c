"""`order-rail chaos`: the whole system under load while faults are injected, and an audit afterwards.

`schedule.py` draws from the seed which fault is injected when; `customers.py` places the orders and `journal.py`
records those that were accepted; `faults/` holds the faults, and `system.py` what they act on; `watch.py` looks at the
system from outside; `run.py` runs it all, `display.py` shows it, `report.py` judges it, `command.py` is the command.
"""

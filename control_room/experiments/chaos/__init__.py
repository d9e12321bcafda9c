"""`order-rail chaos`: the whole system under load while faults fall on it, and an audit of what came of it.

`schedule.py` draws what falls when from the seed; `customers.py` places the orders and `journal.py` keeps what they
were promised; `faults/` holds the faults; `watch.py` looks at the system from outside; `run.py` runs it all,
`display.py` shows it, `report.py` says what came of it, `command.py` is the command.
"""

"""Analytics: orders, revenue, declines, refunds, cancellations, dishes and times per minute, from the stream of events.

A read model: everything in its database comes from the stream `events`, and can be made anew from there. `model.py`
holds the rules, `store.py` the tables, `follow.py` reads on while the control room runs, `command.py` is
`order-rail replay`, and `check.py` compares with the audit.
"""

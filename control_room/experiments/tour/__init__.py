"""`order-rail tour`: real orders on a running system, followed live, and checked at the end.

`steps.py` says what is asked and expected, `system.py` speaks HTTP, `runner.py` runs the steps side by side,
the audit compares the services' books, `display.py` shows it all.
"""

"""`order-rail dead-letters`: look at what was set aside, send it back, or remove it on purpose.

`letter.py` reads a dead letter, `parked.py` goes through a queue of them without changing it, `redrive.py` and
`discard.py` act on them, `listing.py` groups them, `display.py` shows them, `command.py` is the command.
"""

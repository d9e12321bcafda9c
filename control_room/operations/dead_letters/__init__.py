"""`order-rail dead-letters`: list and show parked messages, redrive them, or discard them on purpose."""


class NotDone(Exception):
    """A redrive was refused or stopped half-way, or nothing was discarded; the message says why."""

"""The trace of the running task (W3C Trace Context), which requests, messages and log lines carry."""

import random
import re
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def start_span(parent: str | None) -> str:
    """Make the current task a span of `parent`'s trace, or of a new one where the parent is missing or malformed."""
    if parent is not None and _TRACEPARENT.fullmatch(parent):
        trace_id, flags = parent[3:35], parent[53:]
    else:
        trace_id, flags = _random_id(16), "01"
    traceparent = f"00-{trace_id}-{_random_id(8)}-{flags}"
    _current.set(traceparent)
    return traceparent


def _random_id(length: int) -> str:
    """`length` random bytes in hexadecimal, not all zero. No secret, so that no system call is needed."""
    return f"{random.getrandbits(8 * length) or 1:0{2 * length}x}"


def current_traceparent() -> str | None:
    """The `traceparent` to send on, or None outside any span."""
    return _current.get()


def current_trace_id() -> str | None:
    """The 32 hexadecimal digits that the logs of all services share for one request."""
    traceparent = _current.get()
    return traceparent[3:35] if traceparent else None

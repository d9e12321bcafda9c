"""The tricks that exist only for speed, each with its measured gain. The rest of the code is written to be read.

Some tricks can't leave their place:

- `shared/http/short_cut.py`: POST /orders goes past the framework.
- `shared/messaging/acknowledger.py`: deliveries are acknowledged in groups.
- `shared/messaging/wire.py`: all frames of one turn of the event loop are written to the broker at once.
- `shared/persistence/batcher.py`, `in_loop`: on SQLite the event loop looks up records by itself.
- `shared/persistence/backends.py`, `keeps_connections` and `_begin`: a transaction takes no connection from the pool.
- `shared/persistence/outbox.py`, `hand_over`: the relay gets committed rows without reading the table.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

SWITCH_SECONDS = 0.001
"""How long the event loop may go on while a database thread waits for the interpreter. Python's own 5 ms are long for
a thread that waits after each row: at 1,700 orders/s the median answer took 54 ms with this, 92 ms without.
"""

GARBAGE_THRESHOLDS = 20_000, 20, 20
"""How many new objects make Python look for garbage. At its own 700 a busy service spends a sixth of its time on it,
and finds next to nothing: most objects go as soon as nothing refers to them."""


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Imports inside the block take a fifth less time, and the garbage collector never looks at what they make."""
    gc.disable()
    # structlog imports rich where it is installed, as it is for the control room; no service's log uses it.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()


def new_event_loop() -> "asyncio.AbstractEventLoop":
    """uvloop where it is installed. For `asyncio.Runner(loop_factory=...)`."""
    import asyncio  # noqa: PLC0415 - within `quick_imports`

    try:
        import uvloop  # noqa: PLC0415 - it exists on some platforms only
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

"""The tricks that exist only for speed, each with its measured gain. The rest of the code is written to be read.

Gains are processor time, unless a line says otherwise, and were measured in the shop of Order Rail, where each order
passes three services. These tricks can't leave their place:

- `shared/http/short_cut.py`: POST /orders goes past the framework: 9 µs in place of 97.
- `shared/http/json_body.py`: headers and body are read past Starlette: with `connection.py`'s single check of
  each header's size, an order takes 76 µs of HTTP in place of 85.
- `shared/messaging/acknowledger.py`: deliveries are acknowledged in groups. Not measured by itself.
- `shared/messaging/wire.py`, `_process_callbacks`: the parts of messages go past pika's list of waiting callbacks. A
  drained order takes 1.31 ms in place of 1.45.
- `shared/messaging/wire.py`: all frames of one turn of the event loop are written at once. Not measured by itself.
- `shared/persistence/batcher.py`, `in_loop`: the event loop looks records up in SQLite. An answer comes 17 % sooner.
- `shared/persistence/bulk.py`: rows go past SQLAlchemy: an order's rows take 26 µs in place of 36.
- `shared/persistence/utc.py`, `UtcDateTime.bind_processor`: a time takes 1 µs in place of 2; an order has three.
- `shared/persistence/transactions.py`: a connection is kept for the next transaction. A look-up on SQLite takes 27 %
  more without. On PostgreSQL that saves the pool's test of the connection, a message to the server and back.
- `shared/persistence/backends.py`, `Postgresql.options`: reading takes one message in place of three.
- `shared/persistence/backends.py`, `Postgresql.pipeline`: statements that return nothing are not waited for. With a
  writer for each operation and two messages for a batch of the relay in place of five, 2.7 times as many orders are
  taken while all services work, on a busy machine.
- `shared/persistence/one_of.py`: one parameter for all keys, so that each statement has one text, which is parsed once:
  a look-up on SQLite takes 34 µs in place of 46.
- `shared/persistence/backends.py`, `Sqlite._begin`: BEGIN goes past SQLAlchemy. A look-up takes 15 % more without.
- `shared/persistence/outbox.py`, `hand_over`: the relay gets rows from the commit. Reading costs 10 µs for each row
  of a batch, and 90 µs for a single row.
- Statements that each order needs are built once: building a statement takes twice as long as running it. The same
  holds for a metric's labels.
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
"""How many new objects make Python look for garbage. With Python's own 700, decoding an event takes 22 µs
in place of 10, and the collector finds next to nothing: most objects go as soon as nothing refers to them."""


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Imports inside the block take a fifth less time, and a full garbage collection later 55 ms less."""
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
    """uvloop where it is installed: 24 % less for 200 orders/s. For `asyncio.Runner(loop_factory=...)`."""
    import asyncio  # noqa: PLC0415 - within `quick_imports`

    try:
        import uvloop  # noqa: PLC0415 - it exists on some platforms only
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

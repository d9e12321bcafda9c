"""A process's imports, made cheaper: a service that has crashed is away for as long as they take."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """What is imported inside the block is there for good: it is never looked through for garbage, now or later."""
    gc.disable()
    # structlog takes rich where it is installed, as it is for the control room, and no service's log has a use for it.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

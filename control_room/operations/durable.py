"""What is written survives a power failure."""

import os
from pathlib import Path


def to_disk(path: Path) -> None:
    """Wait until a file's content is on disk, or, of a directory, the names in it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

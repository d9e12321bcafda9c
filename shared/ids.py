"""Identifiers: UUID version 7 (RFC 9562) as lower-case strings, so that they sort by time of creation."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import StringConstraints
from uuid_utils import uuid7

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
ID_PATTERN = UUID_PATTERN.replace("a-f", "A-Fa-f")
"""A UUID in a request: RFC 9562 tells readers to accept upper case."""

OrderId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
"""The id of what an event is about: a UUID of any version, in lower case."""

GivenId = Annotated[str, StringConstraints(pattern=ID_PATTERN, to_lower=True)]
"""An id in a request, turned into lower case."""


def canonical(given: str) -> str | None:
    """The id in lower case, as it is stored; None for a text that is no UUID."""
    return given.lower() if re.fullmatch(ID_PATTERN, given) else None


def new_id() -> str:
    """A new UUIDv7, such as `019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55`."""
    return str(uuid7())


def seconds_since(uuid: str) -> float | None:
    """How long ago a UUIDv7 was made; None for one of another version, which does not say."""
    return time.time() - int(uuid.replace("-", "")[:12], 16) / 1000 if uuid[14:15] == "7" else None


def first_id(at: datetime) -> str:
    """The smallest UUIDv7 of a moment: all that were made earlier sort before it, and no others do."""
    milliseconds = f"{max(at - EPOCH, timedelta(0)) // timedelta(milliseconds=1):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-000000000000"


def made_at(uuid: str) -> datetime:
    """The moment at which a UUIDv7 was made, to the millisecond."""
    return EPOCH + timedelta(milliseconds=int(uuid.replace("-", "")[:12], 16))

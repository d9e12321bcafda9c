"""Identifiers: UUID version 7 (RFC 9562) as canonical lower-case strings, so that they sort by time of creation."""

from typing import Annotated

from pydantic import StringConstraints
from uuid_utils import uuid7

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

OrderId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
"""An order's id in a request or an event; any UUID version is read, version 7 is written."""


def new_id() -> str:
    """A new UUIDv7, such as `019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55`."""
    return str(uuid7())

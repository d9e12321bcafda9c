"""Identifiers: UUID version 7 (RFC 9562) as canonical lower-case strings, so that they sort by time of creation."""

import re
from typing import Annotated

from pydantic import StringConstraints
from uuid_utils import uuid7

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

OrderId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
"""An order's id in an event, as we write it; any UUID version is read, version 7 is written."""

GIVEN_UUID_PATTERN = UUID_PATTERN.replace("a-f", "A-Fa-f")
"""A UUID as others may write it: RFC 9562 tells readers to take upper case as well."""

GivenId = Annotated[str, StringConstraints(pattern=GIVEN_UUID_PATTERN, to_lower=True)]
"""An id in a request, turned into the form in which we write and keep it."""


def canonical(given: str) -> str | None:
    """An id in the form in which we keep it; None for what is no UUID."""
    return given.lower() if re.fullmatch(GIVEN_UUID_PATTERN, given) else None


def new_id() -> str:
    """A new UUIDv7, such as `019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55`."""
    return str(uuid7())

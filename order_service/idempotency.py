"""The `Idempotency-Key` header of a request, and the fingerprint of the request's body.

The header is a structured field (RFC 9651): one String, such as `"8e03978e-40d5-43dd-bc93-6894a57f9324";v=1`. Its
parameters are ignored. A key without quotes is accepted as well.
"""

import hashlib
import re
from collections.abc import Sequence

from pydantic import BaseModel

from shared.http.problems import Problem

MAX_KEY_LENGTH = 255

_STRING = r'"(?P<quoted>(?:[ !#-\[\]-~]|\\["\\])*)"'
# Not a value of another type: ":" begins a Byte Sequence, "?" a Boolean, "@" a Date.
_BARE = r"(?P<bare>(?![:?@])[A-Za-z0-9!#$%&'*+./:=?@^_`|~-]+)"
_NAME = r"[a-z*][a-z0-9_.*-]*"
_VALUES = (
    r"-?[0-9]{1,12}\.[0-9]{1,3}",  # Decimal
    r"@?-?[0-9]{1,15}",  # Integer, Date
    r'"(?:[ !#-\[\]-~]|\\["\\])*"',  # String
    r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*",  # Token
    r":[A-Za-z0-9+/=]*:",  # Byte Sequence
    r"\?[01]",  # Boolean
    r'%"(?:[ !#$&-~]|%[0-9a-f]{2})*"',  # Display String
)
_ITEM = re.compile(rf"(?:{_STRING}|{_BARE})(?:; *{_NAME}(?:=(?:{'|'.join(_VALUES)}))?)*")


def idempotency_key(values: Sequence[str]) -> str | None:
    """The key in the header's values; None without a header. Raises `Problem` 400 for a malformed header."""
    if not values:
        return None
    if len(values) > 1:
        raise _malformed("sent more than once")
    item = _ITEM.fullmatch(values[0].strip(" \t"))
    if item is None:
        raise _malformed('expected a string in double quotes, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"')
    key = item["bare"] or re.sub(r"\\(.)", r"\1", item["quoted"])
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise _malformed(f"expected 1 to {MAX_KEY_LENGTH} characters")
    return key


def fingerprint(request: BaseModel) -> str:
    """A hash of the validated request: the same for every JSON form of the same order."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()


def _malformed(detail: str) -> Problem:
    return Problem.of_field("Idempotency-Key", detail, status=400)

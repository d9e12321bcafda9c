"""The `Idempotency-Key` header of a request, and the fingerprint of what the request asks for."""

import hashlib
import re
from collections.abc import Sequence

from pydantic import BaseModel

from shared.http.problems import FieldError, Problem

MAX_KEY_LENGTH = 255
# A structured-field string (RFC 9651): printable ASCII in quotes, with \" and \\ for a quote and a backslash.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[A-Za-z0-9!#$%&'*+./:=?@^_`|~-]+")


def idempotency_key(values: Sequence[str]) -> str | None:
    """The key in the header's values, None without a header. Raises `Problem` 400 for one that is malformed."""
    if not values:
        return None
    if len(values) > 1:
        raise _malformed("sent more than once")
    value = values[0].strip(" \t")
    quoted = _QUOTED.fullmatch(value)
    if quoted is None and not _BARE.fullmatch(value):
        raise _malformed('expected a string in double quotes, such as "8e03978e-40d5-43dd-bc93-6894a57f9324"')
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise _malformed(f"expected 1 to {MAX_KEY_LENGTH} characters")
    return key


def fingerprint(request: BaseModel) -> str:
    """The same for requests that ask for the same, however their JSON was written."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()


def _malformed(detail: str) -> Problem:
    return Problem.of_fields([FieldError(field="Idempotency-Key", detail=detail)], status=400)

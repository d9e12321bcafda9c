"""A request's body as JSON: in which encodings it is taken, and what a JSON parser lets pass and we don't."""

import json
import re
from codecs import BOM_UTF8
from typing import Any

from fastapi import Request

from shared.http.problems import FieldError, Problem

MEDIA_TYPE = "application/json"
CODING = "identity"
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"']*)""")
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")


async def json_body(request: Request) -> bytes:
    """The body. Raises `Problem` 415 for one in an encoding that is not read, and says which is.

    A byte order mark is left out: RFC 8259 (8.1) lets readers ignore it, and some editors and shells write one.
    """
    headers = request.headers
    if (content_type := headers.get("content-type", MEDIA_TYPE)) != MEDIA_TYPE:
        _check_type(content_type.lower())
    if (coding := headers.get("content-encoding", CODING)) != CODING:
        _check_coding(coding.lower())
    return (await request.body()).removeprefix(BOM_UTF8)


def _check_type(content_type: str) -> None:
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip() != MEDIA_TYPE:
        raise _unsupported(f"Content-Type: expected {MEDIA_TYPE}, got {media_type[:100]}", "Accept", MEDIA_TYPE)
    charset = _CHARSET.search(parameters)
    if charset and charset[1] not in _CHARSETS:
        detail = f"Content-Type: expected {MEDIA_TYPE} in UTF-8, got the charset {charset[1][:100]}"
        raise _unsupported(detail, "Accept", MEDIA_TYPE)


def _check_coding(coding: str) -> None:
    if coding.strip() not in ("", CODING):
        detail = f"Content-Encoding: expected none, got {coding[:100]}; send the body as it is"
        raise _unsupported(detail, "Accept-Encoding", CODING)


def _unsupported(detail: str, header: str, taken: str) -> Problem:
    """RFC 9110 (15.5.16): the answer's `Accept` or `Accept-Encoding` says what would have been taken."""
    return Problem(415, detail, headers={header: taken})


def not_json(detail: str) -> Problem:
    return Problem.of_fields([FieldError(field="body", detail=detail)], status=400)


def check_names(body: bytes) -> None:
    """Raises `Problem` 400 where an object has a name twice, for readers differ in which one counts; or for a NaN."""
    try:
        json.loads(body, object_pairs_hook=_unique, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise not_json(f"Invalid JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the name {name[:100]!r} stands twice in one object")
        seen.add(name)


def _constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")

"""A request's body as JSON: its encoding, and the repeated names and NaNs that JSON parsers accept and we refuse."""

import json
import re
from codecs import BOM_UTF8
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from shared.http.problems import Problem

MEDIA_TYPE = "application/json"
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"']*)""")
_CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")


async def json_body(request: Request) -> bytes:
    """The body without a byte order mark (RFC 8259, 8.1). Raises `Problem` 415 if it is not JSON in plain UTF-8."""
    # Of a repeated header the first counts. Starlette's own mapping searches and decodes at each look.
    headers = dict(reversed(request.scope["headers"]))
    if (content_type := headers.get(b"content-type")) not in (None, b"application/json"):
        _check_type(content_type.decode("latin-1").lower())
    if (coding := headers.get(b"content-encoding", b"").lower().strip()) not in (b"", b"identity"):
        detail = f"Content-Encoding: expected none, got {coding[:100].decode('latin-1')}; send the body as it is"
        raise Problem(415, detail, headers={"Accept-Encoding": "identity"})
    return (await _whole_body(request)).removeprefix(BOM_UTF8)


async def _whole_body(request: Request) -> bytes:
    """As `Request.body`, without its generators (`tuning.py`). Raises `ClientDisconnect`."""
    body, is_whole = b"", False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)
    return body


def _check_type(content_type: str) -> None:
    media_type, _, parameters = content_type.partition(";")
    charset = _CHARSET.search(parameters)
    if media_type.strip() != MEDIA_TYPE:
        detail = f"Content-Type: expected {MEDIA_TYPE}, got {media_type[:100]}"
    elif charset and charset[1] not in _CHARSETS:
        detail = f"Content-Type: expected {MEDIA_TYPE} in UTF-8, got the charset {charset[1][:100]}"
    else:
        return
    raise Problem(415, detail, headers={"Accept": MEDIA_TYPE})  # what would be accepted (RFC 9110, 15.5.16)


def not_json(detail: str) -> Problem:
    return Problem.of_field("body", detail, status=400)


def check_names(body: bytes) -> None:
    """Raises `Problem` 400 for a NaN, and for an object with a name twice: readers differ in which one counts."""
    try:
        json.loads(body, object_pairs_hook=_check_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise not_json(f"Invalid JSON: {error}") from None


def _check_unique(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise ValueError(f"the name {name[:100]!r} stands twice in one object")
        seen.add(name)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")

"""The shop page: plain HTML, CSS and ES modules that talk to this service's own API. No build step.

It knows no more than any other client of the API does.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

SERVED = (".html", ".css", ".js", ".svg")
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",  # revalidated each time, so that an update of the service updates the page
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _PageFiles(StaticFiles):
    """The files of the page in this folder, and nothing else that lies here."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return super().lookup_path(path) if path.endswith(SERVED) else ("", None)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


_files = _PageFiles(directory=Path(__file__).parent)


def router(control_room_url: str) -> APIRouter:
    """The calls for the page. It links to the control room where there is one."""
    calls = APIRouter(include_in_schema=False)

    @calls.get("/")
    async def page(request: Request) -> Response:
        """The page itself."""
        return await _files.get_response("index.html", request.scope)

    @calls.get("/shop/links.json")
    async def links() -> dict[str, str | None]:
        """What the page links to."""
        return {"control_room_url": control_room_url or None}

    @calls.get("/shop/{name}")
    async def file(name: str, request: Request) -> Response:
        """What the page is made of."""
        return await _files.get_response(name, request.scope)

    return calls

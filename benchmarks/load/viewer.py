"""Somebody who watches the control room, without a browser to draw it: those have a machine of their own.

`python -m benchmarks.load.viewer URL --seconds 10` prints one JSON object: the updates that came, and the longest time
between two of them.
"""

import asyncio
import json
import re
import time
import uuid
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import urlencode

import httpx
import socketio
import typer

CLIENT_ID = re.compile(r"client_id['\"]?: ?['\"]([0-9a-f-]{36})")
"""Where a page of NiceGUI says which client it was made for."""


class Viewer:
    """One open page. `seen_at`: when each update came, on the clock of `time.monotonic`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket = socketio.AsyncClient(reconnection=False)
        self._socket.on("*", self._see)
        self.seen_at: list[float] = []

    async def _see(self, event: str, _data: Any) -> None:
        if event == "update":
            self.seen_at.append(time.monotonic())

    async def watch(self, seconds: float) -> None:
        """Open the page, and watch it so long. Raises httpx.HTTPError, or socketio's ConnectionError."""
        query = urlencode(
            {
                "client_id": await self._open(),
                "next_message_id": 0,
                "implicit_handshake": "true",
                "tab_id": uuid.uuid4(),
                "document_id": uuid.uuid4(),
            }
        )
        await self._socket.connect(
            f"{self._url}?{query}", socketio_path="/_nicegui_ws/socket.io", transports=["websocket"]
        )
        await asyncio.sleep(seconds)
        await self._socket.disconnect()

    async def _open(self) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            page = (await http.get(self._url)).raise_for_status().text
        found = CLIENT_ID.search(page)
        if found is None:
            raise typer.BadParameter(f"{self._url} is no page of the control room")
        return found[1]


async def look(url: str, seconds: float) -> dict[str, object]:
    """Watch it, and say what came."""
    viewer = Viewer(url)
    await viewer.watch(seconds)
    gaps = [later - earlier for earlier, later in pairwise(viewer.seen_at)]
    return {"updates": len(viewer.seen_at), "longest_gap_seconds": max(gaps, default=seconds)}


def main(
    url: Annotated[str, typer.Argument(help="Of the control room.")],
    seconds: float = 10.0,
) -> None:
    """Watch the control room, and print what came."""
    print(json.dumps(asyncio.run(look(url, seconds))))


if __name__ == "__main__":
    typer.run(main)

"""What a panel is: it stands beside the rail, and may watch something in the background for all viewers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import FastAPI

from control_room.dashboard.page.parts import Page
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot


@dataclass(frozen=True)
class Panel:
    """`name` is also the part of the address after `#`, and `query` a parameter of the address that opens it.

    `show` draws it for one viewer. `chip`: a few words in the heading, with their CSS class.
    `opened`: something that runs as long as the room is open; the room keeps it by its type.
    `serve` adds calls to the page's server.
    """

    name: str
    label: str
    show: Callable[[Page], object]
    chip: Callable[[Page, Snapshot], tuple[str, str]] | None = None
    query: str = ""
    opened: Callable[[Room], AbstractAsyncContextManager[object]] | None = None
    serve: Callable[[FastAPI, Room], None] | None = None

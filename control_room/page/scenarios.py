from control_room.observer import Picture
from control_room.page.access import Viewer
from control_room.page.room import Room


class Scenarios:
    def __init__(self, room: Room, viewer: Viewer) -> None: ...

    def show(self, picture: Picture) -> None: ...

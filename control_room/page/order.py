from control_room.observer import Picture
from control_room.page.room import Room


class Story:
    def __init__(self, room: Room) -> None: ...

    def show(self, picture: Picture) -> None: ...

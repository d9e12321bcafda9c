"""Where a process of the lab waits to be killed: it dies in the middle of its work, and not by luck elsewhere."""

import json
import os
from pathlib import Path

BEFORE_COMMIT, AFTER_COMMIT = "before the commit", "after the commit"
BEFORE_EFFECT, AFTER_EFFECT = "before the effect", "after the effect"


class Point:
    """One for each role of a way. The lab arms it; the process that comes to it stays there until it is killed."""

    def __init__(self, folder: Path, role: str) -> None:
        self._armed, self._taken = folder / f"{role}.point", folder / f"{role}.at-point"

    def arm(self, at: str, order: int) -> None:
        """Stop the process at this place with this order, and with all later ones that it works on at the same time."""
        self._taken.unlink(missing_ok=True)
        new = self._armed.with_suffix(".new")
        new.write_text(json.dumps({"at": at, "order": order}))
        new.replace(self._armed)

    def disarm(self) -> None:
        """The process is dead; the next one is to go on."""
        self._armed.unlink()

    def taken(self) -> tuple[int, int] | None:
        """The process that waits there, and its first order; None if there is none yet."""
        try:
            process, order = self._taken.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(process), int(order)

    def is_at(self, at: str, order: int) -> bool:
        """Asked by the process at each place: whether it is to stay here."""
        try:
            armed = json.loads(self._armed.read_text())
        except FileNotFoundError:
            return False
        if armed["at"] != at or order < armed["order"]:
            return False
        if not self._taken.exists():
            self._taken.write_text(f"{os.getpid()} {order}\n")
        return True

"""The end of a log file, for messages that say why something did not start."""

from pathlib import Path

TAIL_LINES = 25
TAIL_BYTES = 16 * 1024


def tail(log: Path) -> str:
    """The last 25 lines under a heading that names the file."""
    if not log.exists():
        return f"--- {log} was not written"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join((f"--- the end of {log}", *lines))

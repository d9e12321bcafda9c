"""Standard output that takes any text, whatever the terminal's encoding is."""

import codecs
import io
import sys

HANDLER = "order_rail_plain"
LOOKALIKES = {"…": "~", **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True))}
"""What stands for a sign of ours or of Rich's: one character for one, so that tables and bars keep their widths."""

BRAILLE = range(0x2800, 0x2900)  # the frames of Rich's spinner


def accept_any_text() -> None:
    """From now on what standard output or standard error can't encode is written in ASCII instead of raising.

    Call it first in a process: an email with an umlaut in a log line, or the `…` of a narrow table, would else end
    what printed it. Text of others keeps its meaning: `ü` becomes `\\xfc`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    if ord(character) in BRAILLE:
        return "*"
    return LOOKALIKES.get(character) or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(HANDLER, _plain)

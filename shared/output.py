"""Standard output that accepts any text, whatever the terminal's encoding is."""

import codecs
import io
import sys

HANDLER = "order_rail_plain"
REPLACEMENTS = {"…": "~", **dict(zip("▁▂▃▄▅▆▇█", ".:-=+*#@", strict=True))}
"""ASCII for the characters that we and Rich print: one for one, so that tables and bars keep their widths."""

BRAILLE = range(0x2800, 0x2900)  # the frames of Rich's spinner


def accept_any_text() -> None:
    """Write what standard output or standard error can't encode in ASCII: `\\xfc` for `ü`.

    Call it first in a process: an email address with an umlaut in a log line would otherwise raise.
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
    return REPLACEMENTS.get(character) or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(HANDLER, _plain)

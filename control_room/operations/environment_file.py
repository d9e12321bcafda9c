"""The file `environment` of a run directory: written here, and read back alike by python-dotenv and by `sh`.

The two differ in their quotes. Between single quotes dotenv knows `\\'`, which a shell doesn't; between double quotes a
shell needs `\\$`, which dotenv doesn't know; and dotenv replaces `${NAME}` between both. What they have in common is
double quotes with `\\"` and `\\\\`, and `${NAME}` for the value of an earlier line: so `$` and the backtick, where they
occur, are lines of their own.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

_BARE = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
_VARIABLES = {"$": "ORDER_RAIL_DOLLAR", "`": "ORDER_RAIL_BACKTICK"}
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', **{sign: f"${{{name}}}" for sign, name in _VARIABLES.items()}})


class Unwritable(Exception):
    """The value of a variable can't be written for a shell and for dotenv alike; the message does not show it."""


def write_variables(file: Path, variables: Mapping[str, str]) -> None:
    """Replace the file as a whole, readable by its owner only: it holds passwords. Raises Unwritable, OSError."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes(_text(variables).encode())
    new.replace(file)


def read_variables(file: Path) -> dict[str, str | None]:
    """The variables; None for a name without a value. Also reads what a person has written for dotenv."""
    return dotenv_values(file, encoding="utf-8")


def _text(variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        if "\0" in value or "\r" in value or not _is_utf8(value):
            raise Unwritable(f"{name} holds a NUL, a carriage return or a byte that is no UTF-8; leave that out")
    values = "".join(variables.values())
    signs = [f"{name}='{sign}'\n" for sign, name in _VARIABLES.items() if sign in values]
    return "".join([*signs, *(f"{name}={_quoted(value)}\n" for name, value in variables.items())])


def _quoted(value: str) -> str:
    return value if _BARE.fullmatch(value) else f'"{value.translate(_ESCAPES)}"'


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

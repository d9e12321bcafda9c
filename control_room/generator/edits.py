"""Edits of a copied text. Each raises `Outdated` where it finds nothing, so that a list of them can't go stale."""

import ast
import re
from collections.abc import Callable, Collection

Edit = Callable[[str], str]


class Outdated(Exception):
    """An edit finds nothing to do: the file has changed, and the list of edits has not."""


def words(pattern: str, replacement: str = "") -> Edit:
    """Replaces what a pattern matches; `.` is any character, also an end of a line."""

    def edit(text: str) -> str:
        edited, count = re.subn(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL)
        return _expect(edited, count, pattern)

    return edit


def without_lines(pattern: str) -> Edit:
    """Drops each line in which the pattern is found."""

    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if not re.search(pattern, line)]
        return _expect("".join(kept), len(lines) - len(kept), pattern)

    return edit


def without_paragraphs(pattern: str) -> Edit:
    """Drops each paragraph, which ends at an empty line, in which the pattern is found."""

    def edit(text: str) -> str:
        paragraphs = re.split(r"\n(?=\n)", text.rstrip("\n"))
        kept = [each for each in paragraphs if not re.search(pattern, each, flags=re.MULTILINE)]
        return _expect("\n".join(kept).lstrip("\n") + "\n", len(paragraphs) - len(kept), pattern)

    return edit


def without_modules(is_left_out: Callable[[str], bool]) -> Edit:
    """Drops the imports of modules, and each line that uses one of the names that they brought.

    Formatted as before: a tuple of which one is left is on one line.
    """

    def edit(text: str) -> str:
        gone: set[int] = set()
        names: set[str] = set()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                brought = {each.asname or each.name for each in node.names}
                left_out = {name for name in brought if is_left_out(f"{node.module}.{name}")}
                if is_left_out(node.module) or left_out == brought:
                    gone |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
                    left_out = brought
                names |= left_out
        uses = re.compile(rf"\b({'|'.join(names)})\b") if names else re.compile("(?!)")
        lines = text.splitlines(keepends=True)
        kept = [line for number, line in enumerate(lines, 1) if number not in gone and not uses.search(line)]
        short = re.sub(r"= \(\n    (\S+),\n\)$", r"= (\1,)", "".join(kept), flags=re.MULTILINE)
        return _expect(short, len(names), "an import of what is left out")

    return edit


def replaced(table: Collection[tuple[str, str]]) -> Edit:
    """Replaces texts by others, all in one go, the first of the table that fits. Finding none is no error."""
    pattern, by_text = re.compile("|".join(f"({old})" for old, _ in table)), [new for _, new in table]
    return lambda text: pattern.sub(lambda found: by_text[(found.lastindex or 1) - 1], text)


def _expect(text: str, count: int, what: str) -> str:
    if not count:
        raise Outdated(f"nothing is like {what!r}")
    return text

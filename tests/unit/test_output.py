"""What is printed survives every encoding of a terminal, a narrow one, a dumb one and a pipe."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

PRINT_EVERYTHING = r"""
import logging as standard
import sys
import structlog
import typer
from rich.console import Console
from rich.spinner import Spinner
from control_room.cli import app
from control_room.experiments.flash_sale.display import curves
from control_room.experiments.flash_sale.rail import Look
from control_room.operations.dead_letters.display import _body
from shared.observability import logging
from shared.output import accept_any_text

def print_help(command, words):
    print("## page", *words)
    sys.argv = ["order-rail", *words, "--help"]
    try:
        app()
    except SystemExit as ended:
        assert ended.code == 0, (words, ended.code)
    for name, child in getattr(command, "commands", {}).items():
        print_help(child, [*words, name])

print_help(typer.main.get_command(app), [])
accept_any_text()
print("#### part")
Console(force_terminal=True, width=100).print(curves([Look(float(at), at * at, at) for at in range(60)]))
print("#### part")
Console(force_terminal=True).print(Spinner("dots"))
print("#### part")
Console().print(_body(b'{"customer_email": "j\\u00fcrgen@example.com", "half": "\\ud800"}'))
print("#### part")
for log_format in ("json", "console"):
    logging.configure("tests", log_format)
    structlog.get_logger("ours").info("sent", to="j\u00fcrgen@example.com", half="\ud800")
    standard.getLogger("theirs").warning("sent to %s", "j\u00fcrgen@example.com")
"""
TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "dumb": {"PYTHONIOENCODING": "ascii", "TERM": "dumb"},
    "narrow": {"PYTHONIOENCODING": "ascii", "COLUMNS": "20", "TERMINAL_WIDTH": "20"},
}
PARTS = ("help", "sale", "spinner", "dead letter", "log")

each_terminal = pytest.mark.parametrize("terminal", TERMINALS)


@cache
def printed(terminal: str) -> dict[str, str]:
    """What the program prints into a pipe, by part; it must end well and print nothing on standard error."""
    given = ("PYTHONIOENCODING", "LC_ALL", "LANG", "PYTHONUTF8", "COLUMNS")
    inherited = {name: value for name, value in os.environ.items() if name not in given}
    variables = TERMINALS[terminal]
    done = subprocess.run(
        [sys.executable, "-c", PRINT_EVERYTHING], env=inherited | variables, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")
    output = done.stdout.decode(variables.get("PYTHONIOENCODING", "ascii"))
    return dict(zip(PARTS, output.split("#### part\n"), strict=True))


@each_terminal
def test_every_help_page_can_be_printed(terminal: str) -> None:
    pages = printed(terminal)["help"].split("## page")[1:]
    assert len(pages) >= 16
    assert all("Usage" in page for page in pages)


@each_terminal
def test_the_bars_of_a_flash_sale_keep_their_widths(terminal: str) -> None:
    expected = set("▁▂▃▄▅▆▇█" if terminal in ("utf-8", "cp437") else ".:-=+*#@")
    assert len(set(printed(terminal)["sale"]) & expected) > 1


@each_terminal
def test_a_spinner_can_be_printed(terminal: str) -> None:
    assert printed(terminal)["spinner"].strip()


@each_terminal
def test_a_dead_letter_with_any_text_can_be_printed(terminal: str) -> None:
    shown = printed(terminal)["dead letter"].replace("\n", "")
    assert ("jürgen@" if terminal in ("utf-8", "latin-1", "cp437") else r"j\xfcrgen@") in shown
    assert "d800" in shown


@each_terminal
def test_any_text_can_be_logged(terminal: str) -> None:
    lines = printed(terminal)["log"].splitlines()
    assert len(lines) == 4
    assert all("rgen@example.com" in line for line in lines)
    assert json.loads(lines[0])["half"] == "\ud800"

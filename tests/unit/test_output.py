"""What is printed survives every encoding of a terminal, a narrow one, a dumb one and a pipe."""

import json
import os
import subprocess
import sys

import pytest

WALK_ALL_HELP = """
import sys
import typer
from control_room.cli import app

def walk(command, words):
    print("###", *words)
    sys.argv = ["order-rail", *words, "--help"]
    try:
        app()
    except SystemExit as ended:
        assert ended.code == 0, (words, ended.code)
    for name, child in getattr(command, "commands", {}).items():
        walk(child, [*words, name])

walk(typer.main.get_command(app), [])
"""
SHOW_A_SALE = """
from rich.console import Console
from control_room.experiments.flash_sale.display import _picture
from control_room.experiments.flash_sale.rail import Look
from shared.output import accept_any_text
accept_any_text()
Console(force_terminal=True).print(_picture([Look(float(at), at * at, at) for at in range(60)]))
"""
SHOW_A_SPINNER = """
from rich.console import Console
from rich.spinner import Spinner
from shared.output import accept_any_text
accept_any_text()
Console(force_terminal=True).print(Spinner("dots"))
"""
SHOW_A_DEAD_LETTER = r"""
from rich.console import Console
from control_room.operations.dead_letters.display import _body
from shared.output import accept_any_text
accept_any_text()
Console().print(_body(b'{"customer_email": "j\\u00fcrgen@example.com", "half": "\\ud800"}'))
"""
LOG_AN_EMAIL = """
import logging as standard
import structlog
from shared import output
from shared.observability import logging
output.accept_any_text()
for log_format in ("json", "console"):
    logging.configure("tests", log_format)
    structlog.get_logger("ours").info("sent", to="j\\u00fcrgen@example.com", half="\\ud800")
    standard.getLogger("theirs").warning("sent to %s", "j\\u00fcrgen@example.com")
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


def printed(program: str, **terminal: str) -> str:
    """What the program prints into a pipe; it must end well and say nothing on standard error."""
    given = ("PYTHONIOENCODING", "LC_ALL", "LANG", "PYTHONUTF8", "COLUMNS")
    inherited = {name: value for name, value in os.environ.items() if name not in given}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**inherited, **terminal}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr == b""
    return done.stdout.decode(terminal.get("PYTHONIOENCODING", "ascii"))


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_help_page_can_be_printed(terminal: str) -> None:
    pages = printed(WALK_ALL_HELP, **TERMINALS[terminal]).split("###")[1:]
    assert len(pages) >= 16
    assert all("Usage" in page for page in pages)


@pytest.mark.parametrize("terminal", TERMINALS)
def test_the_bars_of_a_flash_sale_can_be_printed_and_keep_their_width(terminal: str) -> None:
    blocks, stand_ins = set("▁▂▃▄▅▆▇█"), set(".:-=+*#@")
    shown = printed(SHOW_A_SALE, **(TERMINALS[terminal] | {"COLUMNS": "100"}))
    assert len(set(shown) & (stand_ins if terminal not in ("utf-8", "cp437") else blocks)) > 1


@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_spinner_can_be_printed(terminal: str) -> None:
    assert printed(SHOW_A_SPINNER, **TERMINALS[terminal]).strip()


@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_dead_letter_with_any_text_can_be_printed(terminal: str) -> None:
    shown = printed(SHOW_A_DEAD_LETTER, **TERMINALS[terminal])
    assert ("jürgen@" if terminal in ("utf-8", "latin-1", "cp437") else r"j\xfcrgen@") in shown.replace("\n", "")
    assert "d800" in shown


@pytest.mark.parametrize("terminal", TERMINALS)
def test_any_text_can_be_logged(terminal: str) -> None:
    lines = printed(LOG_AN_EMAIL, **TERMINALS[terminal]).splitlines()
    assert len(lines) == 4
    assert all("rgen@example.com" in line for line in lines)
    assert json.loads(lines[0])["half"] == "\ud800"

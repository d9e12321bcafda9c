"""The documentation builds, its links lead somewhere, its tests exist, and each command is run or says why not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from control_room.experiments.lab.ways import WAYS, Way
from tests.documentation import PAGES, ROOT, blocks

ELSEWHERE = re.compile(
    r'<(?:script|img|source|iframe)[^>]* src="?https?:|<link[^>]* href="?https?:[^>]*stylesheet|@import'
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_every_test_that_the_documentation_names_exists() -> None:
    text = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?<!def )\btest_\w+\b(?!\.py|/)", text))
    defined = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }

    assert len(named) > 30
    assert not named - defined
    files = set(re.findall(r"(?<!pytest )\btests/\w+/[\w/]+\.py", text))
    assert not {file for file in files if not (ROOT / file).exists()}


def test_the_pages_are_built_without_a_warning_and_load_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: found[0] for page in pages if (found := ELSEWHERE.findall(page.read_text()))} == {}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_files_beside_the_documentation_lead_somewhere(page: str) -> None:
    assert [link for link in LINK.findall((ROOT / page).read_text()) if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_is_run_or_says_why_not_and_can_be_pasted_into_any_shell(page: Path) -> None:
    found = blocks(page)

    assert len(found) == len(re.findall(r"^ *```(?:sh|bash|console|shell|zsh)$", page.read_text(), re.MULTILINE))
    for block in found:
        where = f"{page.name}:{block.line}"
        assert block.is_run or block.exempt == "another terminal" or len(block.reason.split()) > 3, f"{where}: why not?"
        assert not re.search(r"^\$ ", block.commands, re.MULTILINE), (
            f"{where}: a prompt would be pasted with the command"
        )
        assert not re.search(r"(^|\s)# ", block.commands), f"{where}: zsh takes a comment for arguments"


@pytest.mark.parametrize("way", WAYS.values(), ids=lambda way: way.name)
def test_each_way_of_the_lab_is_a_short_file_and_is_explained_by_a_paragraph_that_links_back(way: Way) -> None:
    lines = (ROOT / way.lines).read_text().splitlines()
    page, _, anchor = way.why.partition("#")
    text = (ROOT / page).read_text()
    sections = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]
    section = next(each for each in sections if slug(each.partition("\n")[0]) == anchor)

    assert len(lines) <= (40 if way.damage else 80)
    assert way.name in section
    assert "lab.md" in section or page == "docs/lab.md"
    assert f"]({way.why.removeprefix('docs/').removeprefix('lab.md')})" in (ROOT / "docs/lab.md").read_text()


def slug(heading: str) -> str:
    """As the pages have it."""
    return re.sub(r"[^\w-]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))

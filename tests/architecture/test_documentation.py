"""What the documentation says of the tests is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_documentation_names_exists() -> None:
    named = {name for page in (ROOT / "docs").glob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    defined = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }

    assert len(named) > 10
    assert not named - defined

"""What `order-rail new project` refuses, and the edits that it makes. test_a_project_of_ones_own.py runs its result."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from control_room.generator import project as module
from control_room.generator.checkout import ROOT, Refused, git
from control_room.generator.edits import Edit, Outdated, without_lines, without_modules, without_paragraphs, words
from control_room.generator.manifest import EDITS, MODULES_LEFT_OUT, REGISTRIES
from control_room.generator.project import NewProject, checked, commit
from control_room.generator.requirements import pinned_for
from shared.contract import services
from tests.support import of_the_shop_alone

pytestmark = of_the_shop_alone


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        ("My_Shop", "", "'My_Shop' is no name of a project; expected a-z"),
        ("s" * 41, "", "at most 40"),
        ("shop", "my shop", "'my shop' is no name of a project"),
        ("fastapi", "", "'fastapi' is the name of a package"),
        ("shop", "order-rail", "'order-rail' is the name of a package"),
        ("full", "", "full exists, and is not an empty folder"),
        ("file", "", "file exists, and is not an empty folder"),
        (str(ROOT / "docs/shop"), "", "is inside this clone; choose a place outside of it"),
        (str(ROOT), "shop", "is inside this clone"),
    ],
)
def test_what_can_not_be_is_refused_with_what_is_expected(tmp_path: Path, path: str, name: str, reason: str) -> None:
    (tmp_path / "full/folder").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(Refused) as refused:
        checked(tmp_path / path, name)
    assert reason in str(refused.value)


def test_an_empty_folder_and_one_that_is_not_there_will_do(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "new/folder"):
        assert checked(path, "my-shop").title == "My shop"


def test_where_the_examples_are_not_a_clone_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(Refused, match="this needs a clone of Order Rail"):
        checked(tmp_path / "shop", "")


def test_a_clone_with_services_of_its_own_is_no_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = services()
    monkeypatch.setattr(module, "services", lambda: (*ours, replace(ours[0], name="loyalty_service")))
    with pytest.raises(Refused, match=r"this clone has services of its own \(loyalty_service\)"):
        checked(tmp_path / "shop", "")


def test_without_an_author_it_is_left_uncommitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": ""}.items():
        monkeypatch.setenv(variable, value)
    for variable, value in {"COUNT": "1", "KEY_0": "user.useConfigOnly", "VALUE_0": "true"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{variable}", value)
    for variable in AUTHOR:
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/file").touch()
    assert commit(NewProject(tmp_path / "shop", "shop", "abc")).startswith("not committed (")
    assert git("diff", "--cached", "--name-only", at=tmp_path / "shop") == "file"


def test_inside_another_repository_none_is_made(tmp_path: Path) -> None:
    git("init", "--quiet", at=tmp_path)
    (tmp_path / "shop").mkdir()
    new = NewProject(tmp_path / "shop", "shop", "abc")
    assert commit(new) == f"not committed, since it is inside the repository {tmp_path}"


AUTHOR = ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")


@pytest.mark.parametrize("case", ["ignored by a repository around it", "a new repository itself"])
def test_in_a_folder_that_git_knows_it_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    for variable in AUTHOR:
        monkeypatch.setenv(variable, "test@example.com")
    shop = tmp_path / "shop"
    shop.mkdir()
    git("init", "--quiet", at=shop if case == "a new repository itself" else tmp_path)
    (tmp_path / ".gitignore").write_text("*\n")
    new = checked(shop, "")
    (shop / "file").touch()
    assert commit(new) == "in one commit"
    assert git("ls-files", at=shop) == "file"


def test_everything_that_is_left_out_exists() -> None:
    for each in MODULES_LEFT_OUT:
        file = ROOT / each.replace(".", "/")
        assert file.is_dir() or file.with_suffix(".py").is_file(), each


def test_every_edit_finds_what_it_is_for() -> None:
    """Raises `Outdated` after a change of a file that is taken, which its edits in the manifest do not know."""
    texts = module.texts_of(NewProject(ROOT.parent / "shop", "shop", "abc"))
    assert {file for file in EDITS if file not in texts} == set()
    assert 'name = "shop"' in texts["pyproject.toml"]


def test_an_import_rule_protects_the_control_room_from_all_that_is_left_out() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rule,) = [each for each in contracts if "leaves out" in each["name"]]
    left_out = [each for each in MODULES_LEFT_OUT if each.startswith("control_room.") and ".generator." not in each]
    assert rule["protected_modules"] == left_out
    assert {file.removesuffix(".py").replace("/", ".") for file in REGISTRIES} >= {
        *(set(rule["allowed_importers"]) - {*left_out, "control_room.operations.dead_letters.moot"})
    }


REGISTRY = '''\
"""A registry."""

from kept import one
from left_out.part import two
from several import (
    left_out,
    three,
)

THINGS = (
    one,
    two,
    left_out.THING,
)
'''


WITHOUT = '''\
"""A registry."""

from kept import one
from several import (
    three,
)

THINGS = (one,)
'''


def test_what_is_left_out_loses_its_lines() -> None:
    edited = without_modules(lambda module: "left_out" in module)(REGISTRY)
    assert (
        edited == '"""A registry."""\n\nfrom kept import one\nfrom several import (\n    three,\n)\n\nTHINGS = (one,)\n'
    )


TEXT = "a: 1\nb: 2\n\nc: 3\n"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (words("a.*?2", "x"), "x\n\nc: 3\n"),
        (without_lines("^b"), "a: 1\n\nc: 3\n"),
        (without_paragraphs("^b"), "c: 3\n"),
        (without_paragraphs("^c"), "a: 1\nb: 2\n"),
    ],
)
def test_an_edit_changes_what_it_finds(edit: Edit, expected: str) -> None:
    assert edit(TEXT) == expected


@pytest.mark.parametrize("edit", [words("d"), without_lines("d"), without_paragraphs("d"), without_modules(bool)])
def test_an_edit_that_finds_nothing_says_so(edit: Edit) -> None:
    with pytest.raises(Outdated, match="nothing is like"):
        edit("c: 3\n")


PINS = """\
# by uv
a==1 \\
    --hash=x
    # via shop (pyproject.toml)
b==1 ; sys_platform == 'win32' \\
    --hash=x
    # via
    #   -c requirements.txt
    #   a
    #   c
c==1 \\
    --hash=x
    # via shop (pyproject.toml)
"""


OWN_PINS = """\
# by uv
a==1 \\
    --hash=x
    # via my-shop (pyproject.toml)
b==1 ; sys_platform == 'win32' \\
    --hash=x
    # via
    #   -c requirements.txt
    #   a
"""


def test_the_pins_of_a_project_are_those_that_it_needs() -> None:
    assert pinned_for(PINS, ["A[extra]; python_version > '3'"], "my-shop") == OWN_PINS
    assert "a==1" not in pinned_for(PINS, ["c"], "my-shop")

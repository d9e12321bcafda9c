"""The file that tells others where everything is: our reader, dotenv as it comes, and shells read what was written."""

import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from control_room.operations.environment_file import Unwritable, read_variables, write_variables

NASTY = "'\"$#`\\ !{}X~*?[];&|<>()=%\n\té"
VALUES = st.text(st.sampled_from(NASTY) | st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))
EXAMPLES = [
    "it's", '"', "$", "$HOME", "${HOME}", "${X:-y}", "#", "a #b", "`id`", "\\", "\\n", "\\\\'", "a b", " a ", "!!", "",
    "it's ${HOME} and \"$(id)\" `id` \\$ \\", "${ORDER_RAIL_DOLLAR}", "amqp://u:p&ss%231@[::1]:5672/%2F?heartbeat=5",
    "/tmp/it's a \"run\" $dir/x\ny", "ü€\u2028\x85", "~", "~root", "a=b:~",
]  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("it's a $folder") / "environment"


def by_a_shell(shell: str, file: Path, names: list[str]) -> list[str]:
    """What `. file` leaves in the variables."""
    show = " ".join(f'"${name}"' for name in names)
    program = f"set -eu; . \"$1\"; printf '%s\\0' {show}"
    done = subprocess.run([shell, "-c", program, shell, file], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


def assert_all_read(file: Path, variables: dict[str, str]) -> None:
    names = list(variables)
    for read in (read_variables(file), dotenv_values(file)):
        assert {name: read[name] for name in names} == variables
    for shell in ("sh", "bash"):
        assert by_a_shell(shell, file, names) == list(variables.values())


@settings(deadline=None)  # of a loaded machine's
@given(st.dictionaries(st.sampled_from(["RABBITMQ_URL", "OPERATOR_TOKEN", "X", "HOME"]), VALUES, min_size=1))
def test_whatever_is_written_is_read_alike(file: Path, variables: dict[str, str]) -> None:
    write_variables(file, variables)
    assert_all_read(file, variables)


@pytest.mark.parametrize("value", EXAMPLES)
def test_each_sign_that_means_something_to_a_reader_survives(file: Path, value: str) -> None:
    variables = {"BEFORE": "1", "OPERATOR_TOKEN": value, "AFTER": "2"}
    write_variables(file, variables)
    assert_all_read(file, variables)


def test_what_our_own_environment_holds_does_not_leak_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDER_RAIL_DOLLAR", "wrong")
    monkeypatch.setenv("X", "wrong")
    write_variables(file, {"OPERATOR_TOKEN": "${X}"})
    assert_all_read(file, {"OPERATOR_TOKEN": "${X}"})


def test_the_file_is_private_and_replaced_as_a_whole(file: Path) -> None:
    write_variables(file, {"A": "1"})
    write_variables(file, {"B": "2"})
    assert read_variables(file) == {"B": "2"}
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["a\0b", "a\rb", "half \ud800"])
def test_what_no_reader_could_read_back_is_refused_and_the_old_file_stays(file: Path, value: str) -> None:
    write_variables(file, {"A": "1"})
    with pytest.raises(Unwritable, match="SECRET_URL holds a NUL"):
        write_variables(file, {"SECRET_URL": value})
    assert read_variables(file) == {"A": "1"}

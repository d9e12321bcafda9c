"""The file of addresses: our reader, dotenv without options and shells all read what was written."""

import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import example, given, settings
from hypothesis import strategies as st

from control_room.operations.environment_file import Unwritable, read_variables, write_variables

NASTY = "'\"$#`\\ !{}X~*?[];&|<>()=%\n\té"
VALUES = st.text(st.sampled_from(NASTY) | st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))
EXAMPLES = dict(enumerate((
    "it's", '"', "$", "$HOME", "${HOME}", "${X:-y}", "#", "a #b", "`id`", "\\", "\\n", "\\\\'", "a b", " a ", "!!", "",
    "it's ${HOME} and \"$(id)\" `id` \\$ \\", "${ORDER_RAIL_DOLLAR}", "amqp://u:p&ss%231@[::1]:5672/%2F?heartbeat=5",
    "/tmp/it's a \"run\" $dir/x\ny", "ü€\u2028\x85", "~", "~root", "a=b:~", "${X}",
)))  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("it's a $folder") / "environment"


@pytest.fixture(autouse=True, scope="module")
def our_own_environment() -> object:
    """Holds variables of the same names, which must not leak in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDER_RAIL_DOLLAR", "wrong")
        patch.setenv("X", "wrong")
        yield


def by_a_shell(shell: str, file: Path, names: list[str]) -> list[str]:
    """What `. file` leaves in the variables."""
    show = " ".join(f'"${name}"' for name in names)
    program = f"set -eu; . \"$1\"; printf '%s\\0' {show}"
    done = subprocess.run([shell, "-c", program, shell, file], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(deadline=None)  # of a loaded machine's
@example({f"VALUE_{number}": value for number, value in EXAMPLES.items()})
@given(st.dictionaries(st.sampled_from(["RABBITMQ_URL", "OPERATOR_TOKEN", "X", "HOME"]), VALUES, min_size=1))
def test_whatever_is_written_is_read_alike(file: Path, variables: dict[str, str]) -> None:
    write_variables(file, variables)

    for found in (read_variables(file), dotenv_values(file)):
        assert {name: found[name] for name in variables} == variables
    for shell in ("sh", "bash"):
        assert by_a_shell(shell, file, list(variables)) == list(variables.values())


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

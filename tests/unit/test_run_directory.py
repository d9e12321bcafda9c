"""The operator token that a run directory keeps."""

from pathlib import Path

import pytest

from control_room.launcher.run_directory import RunDirectory


def test_every_start_in_a_directory_has_the_same_token_and_another_directory_has_another(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path / "one").operator_token()
    assert len(first) >= 32
    assert RunDirectory(tmp_path / "one").operator_token() == first
    assert RunDirectory(tmp_path / "two").operator_token() != first


def test_only_its_owner_may_read_the_token(tmp_path: Path) -> None:
    RunDirectory(tmp_path).operator_token()
    assert [oct(file.stat().st_mode & 0o777) for file in tmp_path.glob("*token*")] == ["0o600"]


@pytest.mark.parametrize("content", [b"", b"\n", "schl\u00fcssel".encode(), b"two\nlines", b"\xff\x00"])
def test_a_file_that_holds_no_token_is_replaced(tmp_path: Path, content: bytes) -> None:
    run = RunDirectory(tmp_path)
    run.operator_token()
    (file,) = tmp_path.glob("*token*")
    file.write_bytes(content)
    token = run.operator_token()
    assert len(token) >= 32
    assert run.operator_token() == token

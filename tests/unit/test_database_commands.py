"""`order-rail database`: which databases it means, and what it says when one can't be used."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from control_room.cli import app
from control_room.launcher.ports import free_ports
from shared.contract import services

OWN = [service.variable("DATABASE_URL") for service in services()]
FILES = {f"{database.name}.db" for service in services() for database in service.databases}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with no variable of a database set."""
    monkeypatch.chdir(tmp_path)
    for variable in (*OWN, "DATABASE_URL", "GATEWAY_URL"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def database(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["database", *arguments])


def test_without_a_variable_the_files_of_the_launcher_are_upgraded(directory: Path) -> None:
    shown = database("show")
    assert (shown.exit_code, shown.output.count(" to run")) == (1, len(FILES))
    upgraded = database("upgrade")
    assert upgraded.exit_code == 0
    assert "gateway: gateway_0002, Refunds that are to fail" in upgraded.output
    assert {file.name for file in (directory / ".run").glob("*.db")} == FILES
    assert database("upgrade").output == "nothing to do\n"
    shown = database("show")
    assert (shown.exit_code, shown.output.count(" ok ")) == (0, len(FILES))


def test_a_single_service_is_upgraded_by_its_own_variable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///here.db")
    refused = database("upgrade")
    assert (refused.exit_code, "say which with --service" in refused.output) == (1, True)
    assert database("upgrade", "--service", "notification_service").exit_code == 0
    assert list(directory.iterdir()) == [directory / "here.db"]


def test_a_gateway_without_a_database_of_ours_has_none_to_upgrade(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_URL", "stripe://")
    assert "gateway" not in database("upgrade", "--service", "payment_service").output
    assert not (directory / ".run/gateway.db").exists()


@pytest.mark.usefixtures("directory")
def test_a_database_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("ORDER_SERVICE_DATABASE_URL", f"postgresql://me:s3cret@127.0.0.1:{port}/orders")
    for arguments in (("upgrade", "--wait-seconds", "0"), ("show",)):
        ended = database(*arguments)
        assert ended.exit_code == 1
        assert f"postgresql://127.0.0.1:{port}/orders" in ended.output
        assert "refused" in ended.output
        assert "s3cret" not in ended.output


@pytest.mark.usefixtures("directory")
def test_what_is_no_database_or_no_service_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no service 'orders' is registered" in database("upgrade", "--service", "orders").output
    monkeypatch.setenv("PAYMENT_SERVICE_DATABASE_URL", "mysql://host/payments")
    assert "PAYMENT_SERVICE_DATABASE_URL: expected " in database("show").output

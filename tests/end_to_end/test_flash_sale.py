"""`order-rail flash-sale`: a small one holds, bad input is refused, and Ctrl-C still leaves a report."""

import signal
from pathlib import Path

import pytest

from control_room.experiments.flash_sale import SaleFailed, sell
from control_room.experiments.traffic import LoadReport
from control_room.launcher.system import System
from tests.order_rail import end_of, file_of, order_rail, processes_of, report_of, start
from tests.support import eventually


async def test_a_small_sale_fills_the_rail_and_drains_it_and_nothing_is_lost(tmp_path: Path) -> None:
    sale = ("--orders", "300", "--seconds", "3", "--payments-per-minute", "3000")
    ended = await order_rail("flash-sale", *sale, "--run-directory", str(tmp_path))

    assert ended.status == 0, ended.output
    assert "All of it held" in ended.output
    report = report_of(tmp_path)
    assert report["held"]
    assert report["sale"]["accepted"] == report["audit"]["counts"]["settled"] == 300
    assert report["largest_backlog"] > 50
    assert report["looks"][-1]["paid"] == 300
    assert report["drained_seconds"] > 0
    assert set(report["sale"]["latency_seconds"]) == {"p50", "p95", "p99", "p99.9", "max"}
    assert {"order_service", "payment_service", "rabbitmq"} < set(report["processor_seconds"])
    assert "300 orders in 3 s" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "chart.svg").read_text().startswith("<?xml")
    assert processes_of(tmp_path) == []


async def test_ctrl_c_ends_a_sale_with_a_report_of_what_was_seen(tmp_path: Path) -> None:
    sale = ("--orders", "3000", "--seconds", "60", "--payments-per-minute", "60")
    running = await start("flash-sale", *sale, "--run-directory", str(tmp_path))
    accepted = tmp_path / "accepted"
    await eventually(lambda: accepted.exists() and accepted.stat().st_size, 120, "orders to be accepted")
    running.send_signal(signal.SIGINT)
    ended = await end_of(running)

    assert ended.status == 130, ended.output
    report = report_of(tmp_path)
    assert not report["held"]
    assert report["ended_in"] == "sale"
    assert 0 < report["sale"]["accepted"] < 3000
    assert processes_of(tmp_path) == []


async def test_a_sale_on_a_running_system_leaves_it_running(system: System, tmp_path: Path) -> None:
    sale = ("--orders", "50", "--seconds", "1", "--run-directory", str(tmp_path))
    ended = await order_rail("flash-sale", *sale, *file_of(system))

    assert ended.status == 0, ended.output
    assert report_of(tmp_path)["sale"]["accepted"] == 50
    assert all(process.exit_status is None for process in system.processes.values())


async def test_the_progress_of_a_sale_is_reported(system: System) -> None:
    reports: list[LoadReport] = []
    result = await sell(system.url("order_service"), 20, 1, reports.append)

    assert (result.placed, result.accepted, result.refused) == (20, 20, {})
    assert len(reports) > 1
    assert reports[-1] == result


async def test_a_sale_without_a_system_is_refused_in_a_sentence(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "environment")
    ended = await order_rail("flash-sale", "--environment-file", nowhere, "--run-directory", str(tmp_path))

    assert ended.status == 2
    assert "no system runs here" in ended.output


async def test_orders_without_an_answer_are_counted() -> None:
    result = await sell("http://127.0.0.1:9", 3, 1)

    assert (result.placed, result.accepted, result.unanswered) == (3, 0, 3)


async def test_customers_who_can_not_order_say_why() -> None:
    with pytest.raises(SaleFailed, match="ValueError"):
        await sell("http://127.0.0.1:no-port", 3, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--orders", "0"), "--orders"),
        (("--seconds", "-5"), "--seconds"),
        (("--orders", "100000", "--seconds", "2"), "50,000 a second"),
        (("--running", "--payments-per-minute", "10"), "has its own pace"),
    ],
)
async def test_impossible_options_are_refused_before_anything_starts(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    ended = await order_rail("flash-sale", *arguments, "--run-directory", str(tmp_path / "run"), COLUMNS="200")

    assert ended.status == 2
    assert sentence in ended.errors
    assert not (tmp_path / "run").exists()

"""What the benchmarks make of what they measured."""

import json
from pathlib import Path

from benchmarks.databases import POSTGRESQL, SQLITE
from benchmarks.goals import verdicts
from benchmarks.results import Quantity, Results
from benchmarks.table import number, to_markdown

MACHINE = {
    "measured_at": "2026-01-01T00:00:00+00:00", "processor": "a processor", "cores": 2, "memory_gib": 8,
    "system": "Linux", "python": "3.11", "rabbitmq": "3.10", "fdatasync_ms": 0.1, "packages": {"fastapi": "1"},
}  # fmt: skip


def results_of(*values: tuple[str, str, str, float], database: str = SQLITE) -> Results:
    results = Results(MACHINE)
    add(results, *values, database=database)
    return results


def add(results: Results, *values: tuple[str, str, str, float], database: str) -> None:
    for measurement, contender, name, value in values:
        results.add(Quantity(measurement, contender, name, "unit", database), value)


def test_rounds_become_a_median_and_a_spread() -> None:
    results = results_of(*(("accept", "celery", "rate", rate) for rate in (30.0, 10.0, 20.0)))

    (row,) = results.as_json()["quantities"]

    assert (row["median"], row["lowest"], row["highest"], row["values"]) == (20, 10, 30, [30, 10, 20])


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    results = results_of(("accept", "celery", "rate", 10.0), ("drain", "celery", "rate", 5.0))
    add(results, ("drain", "celery", "rate", 2.0), database=POSTGRESQL)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results.as_json()))

    assert Results.read(file) == results


def test_order_rail_is_held_against_the_best_peer() -> None:
    results = results_of(
        ("accept", "order_rail", "rate", 1000.0),
        ("accept", "celery", "rate", 100.0),
        ("accept", "taskiq", "rate", 500.0),
        ("accept", "starlette_validates", "rate", 2000.0),
    )

    beside_peer, beside_ceiling = verdicts(results)

    assert (beside_peer.value, beside_peer.is_met) == (2.0, False)
    assert (beside_ceiling.value, beside_ceiling.is_met) == (0.5, False)
    assert "--only accept" in beside_peer.command


def test_drain_is_held_against_those_who_do_the_same_work_too() -> None:
    results = results_of(
        ("drain", "order_rail", "rate", 1000.0),
        ("drain", "faststream", "rate", 400.0),
        ("drain", "faststream_all_steps", "rate", 100.0),
        ("drain", "dramatiq_all_steps", "rate", 125.0),
    )

    assert {verdict.goal: verdict.value for verdict in verdicts(results)} == {
        "drain, beside the best peer": 2.5,
        "drain, beside the best peer that does the same work": 8.0,
    }


def test_postgresql_is_held_against_sqlite_in_one_run() -> None:
    results = results_of(("drain", "order_rail", "rate", 1000.0))
    add(results, ("drain", "order_rail", "rate", 600.0), ("drain", "celery", "rate", 300.0), database=POSTGRESQL)

    beside_peer, beside_sqlite = verdicts(results)

    assert (beside_peer.value, beside_peer.is_met) == (2.0, False)
    assert (beside_sqlite.value, beside_sqlite.is_met) == (0.6, True)
    assert "--only drain --database both" in beside_sqlite.command


def test_a_goal_at_its_bound_is_met() -> None:
    results = results_of(("footprint", "order_rail", "order_service: to ready", 2.0))

    assert [verdict.is_met for verdict in verdicts(results)] == [True]


def test_what_was_not_measured_has_no_verdict() -> None:
    assert verdicts(results_of(("accept", "order_rail", "rate", 1000.0))) == []


def test_memory_is_that_of_the_service_that_grew_most() -> None:
    results = results_of(
        ("growth", "order_rail", "memory of order_service, backlog 1,000", 100.0),
        ("growth", "order_rail", "memory of payment_service, backlog 1,000", 100.0),
        ("growth", "order_rail", "memory of order_service, backlog 200,000", 110.0),
        ("growth", "order_rail", "memory of payment_service, backlog 200,000", 130.0),
    )

    (verdict,) = verdicts(results)

    assert (verdict.value, verdict.is_met) == (1.3, False)


def test_the_table_names_contenders_as_people_do() -> None:
    markdown = to_markdown(results_of(("accept", "order_rail", "rate", 1234.5)), [])

    assert "### accept, SQLite" in markdown
    assert "| Order Rail | rate (unit) | 1,234 | 1,234 | 1,234 | 1 |" in markdown


def test_numbers_keep_three_digits() -> None:
    assert [number(value) for value in (12345.6, 123.4, 12.34, 1.234)] == ["12,346", "123", "12.3", "1.23"]

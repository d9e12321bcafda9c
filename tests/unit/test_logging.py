"""The log: lines for machines and for people, and no harm where they cannot be written."""

import io
import json
import logging as standard
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared import logging
from shared.tracing import start_span

FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logging.configure("tests", "console")


def lines(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_those_of_libraries_look_alike() -> None:
    stream = io.StringIO()
    logging.configure("payment_service", "json", stream)
    traceparent = start_span(None)

    structlog.get_logger("ours").info("charged", order_id="1")
    standard.getLogger("theirs").warning("slow %s", "query")

    ours, theirs = lines(stream)
    assert (ours["event"], ours["level"], ours["order_id"]) == ("charged", "info", "1")
    assert (theirs["event"], theirs["level"]) == ("slow query", "warning")
    for line in (ours, theirs):
        assert line["service"] == "payment_service"
        assert line["trace_id"] == traceparent[3:35]
        assert line["timestamp"].endswith("Z")


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    logging.configure("payment_service", "json", stream)

    try:
        int("no such number")
    except ValueError:
        structlog.get_logger("ours").exception("failed", value=object())

    (line,) = lines(stream)
    assert "ValueError: invalid literal" in line["exception"]
    assert line["value"].startswith("<object")


@pytest.mark.skipif(not FULL.exists(), reason=f"no {FULL} here")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nobody_fails_because_the_log_cannot_be_written(log_format: str) -> None:
    stream = FULL.open("w")
    logging.configure("payment_service", log_format, stream)

    structlog.get_logger("ours").info("charged")
    structlog.get_logger("ours").error("not charged")

    with pytest.raises(OSError, match="No space left"):
        stream.close()

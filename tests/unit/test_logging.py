"""The log: lines for machines and for people, and no error where they can't be written."""

import io
import json
import logging as standard
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shared.observability import logging
from shared.observability.tracing import start_span

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
def test_a_log_that_can_not_be_written_raises_no_error(log_format: str) -> None:
    stream = FULL.open("w")
    logging.configure("payment_service", log_format, stream)

    structlog.get_logger("ours").info("charged")
    structlog.get_logger("ours").error("not charged")

    with pytest.raises(OSError, match="No space left"):
        stream.close()


HOSTILE = "x\n2026-01-01T00:00:00Z [info     ] forged\r\x1b[2J\x9b31m\u202e\u2028"


def test_on_the_console_no_value_begins_a_line_or_controls_the_terminal() -> None:
    stream = io.StringIO()
    logging.configure("payment_service", "console", stream)

    structlog.get_logger("ours").info(HOSTILE, text=HOSTILE, word="\x1b[2J", many=[HOSTILE], error=ValueError(HOSTILE))
    standard.getLogger("theirs").warning("a library says %s", HOSTILE)
    try:
        int(HOSTILE)
    except ValueError:
        structlog.get_logger("ours").exception("failed")

    written = stream.getvalue()
    assert not {"\x1b", "\x9b", "\r", "\u202e", "\u2028"} & set(written)
    beginnings = [line for line in written.split("\n") if line and not line.startswith("  ")]
    assert len(beginnings) == 3
    assert not any(line.startswith("2026-01-01") for line in beginnings)
    assert r"\x1b[2J" in written

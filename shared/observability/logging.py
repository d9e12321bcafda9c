"""Logs on standard output: `LOG_FORMAT=json` for machines, `console` for people. Each line has its trace id."""

import contextlib
import json
import logging
import sys
from io import StringIO
from typing import Any, TextIO

import structlog
from pydantic_core import PydanticSerializationError, to_json

from shared.observability.tracing import current_trace_id


def configure(service: str, log_format: str, stream: TextIO | None = None) -> None:
    """Give our own lines and the libraries' records the same form. To be called first. Default: standard output."""
    stream = stream or sys.stdout

    def add_service(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
        entry["service"] = service
        return entry

    common: list[Any] = [
        add_service,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
    ]
    if log_format == "json":
        render: list[Any] = [structlog.processors.format_exc_info, _as_json]
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_traceback)
        render = [_without_control, renderer]
    # Our own lines go straight to the stream: through the standard library's records they cost three times as much.
    structlog.configure(
        processors=[*common, *render],
        logger_factory=lambda *_names: _Lines(stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(common, render, stream)


def _without_control(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Escape line breaks and control characters: values may come from outside, and could forge lines."""
    for key, value in entry.items():
        if isinstance(value, str) and not value.isprintable():
            entry[key] = _escaped(value)
    return entry


def _traceback(stream: TextIO, error: Any) -> None:
    """Indented, so that no line of it looks like a line of the log.

    Without local variables, which structlog's default prints: they hold people's data.
    """
    written = StringIO()
    structlog.dev.plain_traceback(written, error)
    stream.write("\n".join(f"  {_escaped(line)}" for line in written.getvalue().rstrip().split("\n")))


def _escaped(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class _Lines(structlog.WriteLogger):
    """Writes lines to a stream. A line that can't be written, on a full disk for example, is lost without an error."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = exception = msg


def _configure_libraries(common: list[Any], render: list[Any], stream: TextIO) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render], foreign_pre_chain=common
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # pika logs each step of a reconnect as an error with a traceback; shared/messaging logs one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    for library in ("alembic", "uvicorn", "httpx", "stripe"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _as_json(_logger: Any, _method: str, entry: dict[str, Any]) -> str:
    try:
        return to_json(entry, fallback=repr).decode()
    except PydanticSerializationError:  # a lone surrogate, which JSON can hold and UTF-8 can't
        return json.dumps(entry, default=repr)


def _add_trace_id(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    trace_id = current_trace_id()
    if trace_id:
        entry["trace_id"] = trace_id
    return entry

"""A failure of ours behind an HTTP call: what the client sees, and one line in the log."""

from pathlib import Path

import pytest

from tests.raw_http import HOST, Closed, ask, connected


async def test_a_report_whose_database_is_away_is_a_503_and_one_line(quick: tuple[int, Path]) -> None:
    port, log = quick
    before = len(log.read_text())
    answer = await ask(port, b"GET /audit/0 HTTP/1.1\r\n" + HOST + b"\r\n")

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.problem()
    lines = log.read_text()[before:].splitlines()
    assert len(lines) == 1
    assert "connection refused" in lines[0]


@pytest.mark.parametrize("pages", [1, 3])
async def test_a_report_whose_database_goes_away_breaks_off_with_one_line(quick: tuple[int, Path], pages: int) -> None:
    port, log = quick
    before = len(log.read_text())
    async with connected(port) as line:
        await line.send(f"GET /audit/{pages} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        with pytest.raises(Closed):
            await line.answer()
    lines = log.read_text()[before:].splitlines()
    assert len(lines) == 1
    assert "connection refused" in lines[0]


@pytest.mark.parametrize("path", ["/audit/-1", "/bug"])
async def test_an_error_of_ours_is_logged_once(quick: tuple[int, Path], path: str) -> None:
    port, log = quick
    before = len(log.read_text())
    async with connected(port) as line:
        await line.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        try:
            assert (await line.answer()).status == 500
        except Closed:
            assert path == "/audit/-1"  # that had begun
    assert log.read_text()[before:].count("Traceback") == 1

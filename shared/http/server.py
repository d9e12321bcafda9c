"""The HTTP server as a part of a service."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from shared.http import address
from shared.http.connection import limited
from shared.http.limits import Limits

GRACE_SECONDS = 2
"""How long requests under way may take to finish once the service is asked to stop."""


class HttpServer:
    """Uvicorn in the service's own event loop, without its own signal handling."""

    def __init__(self, app: FastAPI, host: str, port: int, limits: Limits | None = None) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._limits = limits or Limits()
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    def report(self, problems: Callable[[], list[str]]) -> None:
        """Let `/readyz` say what these are when it is asked."""
        self._app.state.problems = problems

    async def start(self) -> None:
        """Raises `SystemExit` with a sentence if the port cannot be had."""
        listening = self._listen()
        config = uvicorn.Config(
            self._app, http=limited(self._limits), log_config=None, access_log=False, lifespan="off", ws="none",
            backlog=2048, timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=self._limits.idle_seconds,
            server_header=False,
            proxy_headers=False,  # nobody here asks for the client's address
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="http server")

    async def stop(self) -> None:
        self._app.state.stopping.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    def _listen(self) -> socket.socket:
        try:
            return address.listen(self._host, self._port, backlog=2048)
        except OSError as error:
            where = address.url_of(self._host, self._port).removeprefix("http://")
            why = address.reason(error)
            raise SystemExit(f"HTTP_HOST, HTTP_PORT: cannot listen on {where}: {why}") from None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the service handles them, for all its parts

"""The HTTP server, uvicorn, as a component of a service."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from shared.http import address
from shared.http.connection import limited
from shared.http.limits import Limits

GRACE_SECONDS = 2
"""How long requests under way may take to finish once the service is asked to stop."""


class Server(uvicorn.Server):
    """Uvicorn in an event loop that runs already. Signals are left to the process, which stops all its components."""

    def __init__(self, app: FastAPI, host: str, port: int, limits: Limits, **options: Any) -> None:
        config = uvicorn.Config(
            app, host, port, http=limited(limits), log_config=None, access_log=False, server_header=False,
            timeout_keep_alive=limits.idle_seconds, **options,
        )  # fmt: skip
        super().__init__(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises OSError if the address is not available."""
        listening = address.listen(self.config.host, self.config.port)
        self._task = asyncio.create_task(self.serve(sockets=[listening]), name="http server")

    async def stop(self) -> None:
        self.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer(Server):
    """The server of a service's application."""

    def __init__(self, app: FastAPI, host: str, port: int, limits: Limits | None = None) -> None:
        super().__init__(
            app, host, port, limits or Limits(), lifespan="off", ws="none", timeout_graceful_shutdown=GRACE_SECONDS,
            proxy_headers=False,  # the client's address is not used; the proxy logs it
        )  # fmt: skip
        self._state = app.state

    def report(self, problems: Callable[[], list[str]], degraded: Callable[[], list[str]]) -> None:
        """Let `/readyz` answer with what these return."""
        self._state.problems, self._state.degraded = problems, degraded

    async def start(self) -> None:
        """Raises `SystemExit` with a sentence if the address is not available."""
        try:
            await super().start()
        except OSError as error:
            where = address.url_of(self.config.host, self.config.port).removeprefix("http://")
            why = address.reason(error)
            raise SystemExit(f"HTTP_HOST, HTTP_PORT: cannot listen on {where}: {why}") from None

    def drain(self) -> None:
        """End each connection with its next answer, within a second: a proxy may be using it when the server stops."""
        self.config.encoded_headers.append((b"connection", b"close"))

    async def stop(self) -> None:
        self._state.stopping.set()
        await super().stop()

    def problem(self) -> str | None:
        return None

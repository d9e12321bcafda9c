"""The life of a service: its components start in order and stop in reverse order. SIGTERM and Ctrl-C stop it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from shared import output, settings
from shared.breaker import Breaker
from shared.http.server import HttpServer
from shared.observability import logging
from shared.settings import ServiceSettings
from shared.tuning import SWITCH_SECONDS, new_event_loop

STOP_SECONDS = 8.0
"""For all components together: container runtimes kill a service 10 s after SIGTERM (and `drain_seconds`)."""

logger = structlog.get_logger(__name__)


class Component(Protocol):
    """A part of a service that runs by itself. `problem`: why the service is not ready because of it, or None."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def problem(self) -> str | None: ...


class Service:
    """The components, in the order in which they start; the HTTP server comes last.

    `breakers`: those around the calls of outside systems. `drain_seconds`: how long it goes on serving after a signal,
    with `/readyz` at 503, so that a proxy sends its requests elsewhere by then.
    """

    def __init__(
        self,
        components: Sequence[Component],
        http: HttpServer,
        breakers: Sequence[Breaker] = (),
        drain_seconds: float = 0.0,
    ) -> None:
        self._components = [*components, http]
        self._http = http
        self._breakers = breakers
        self._drain_seconds = drain_seconds
        self._is_draining = False
        http.report(self._problems, self._degraded)

    async def run(self) -> bool:
        """Start, serve until a signal, stop. Returns whether every component stopped in time."""
        stop_asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop_asked.set)
        for component in self._components:
            await component.start()
        logger.info("service.started")
        await stop_asked.wait()
        logger.info("service.stopping")
        self._is_draining = True
        self._http.drain()
        await asyncio.sleep(self._drain_seconds)
        in_time = await self._stop()
        logger.info("service.stopped", in_time=in_time)
        return in_time

    async def _stop(self) -> bool:
        deadline, in_time = asyncio.get_running_loop().time() + STOP_SECONDS, True
        for component in reversed(self._components):
            name, stopping = type(component).__name__, asyncio.ensure_future(component.stop())
            # Not wait_for, which waits without limit for a component that does not react to being cancelled.
            await asyncio.wait([stopping], timeout=max(0.1, deadline - asyncio.get_running_loop().time()))
            if not stopping.done():
                in_time = False
                stopping.cancel()
                logger.warning("component.stop_timed_out", component=name)
            elif error := stopping.exception():
                logger.error("component.stop_failed", component=name, exc_info=error)
        return in_time

    def _problems(self) -> list[str]:
        parts: list[Component | Breaker] = [*self._components, *self._breakers]
        draining = ["the service is being stopped"] if self._is_draining else []
        return list(dict.fromkeys([*draining, *(problem for each in parts if (problem := each.problem()))]))

    def _degraded(self) -> list[str]:
        return [sentence for each in self._breakers if (sentence := each.degraded())]


SettingsType = TypeVar("SettingsType", bound=ServiceSettings)


def main(name: str, settings_class: type[SettingsType], build: Callable[[SettingsType], Service]) -> None:
    """Read the environment, set up logging, build the service in a new event loop, and run it."""
    output.accept_any_text()
    sys.setswitchinterval(SWITCH_SECONDS)
    configured = settings.load(settings_class)
    logging.configure(name, configured.log_format)

    async def run() -> bool:
        return await build(configured).run()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if not runner.run(run()):
            # A normal exit waits for all threads, and one of them may be in a call to a database that does not answer.
            sys.stdout.flush()
            os._exit(0)

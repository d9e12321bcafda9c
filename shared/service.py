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
"""For all components together: container runtimes kill a service 10 s after SIGTERM."""

logger = structlog.get_logger(__name__)


class Component(Protocol):
    """A part of a service that runs by itself. `problem`: why the service is not ready because of it, or None."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def problem(self) -> str | None: ...


class Service:
    """The components, in the order in which they start; the HTTP server comes last.

    `breakers`: those around the calls of outside systems.
    """

    def __init__(self, components: Sequence[Component], http: HttpServer, breakers: Sequence[Breaker] = ()) -> None:
        self._components = [*components, http]
        self._breakers = breakers
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
        return list(dict.fromkeys(problem for each in parts if (problem := each.problem())))

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

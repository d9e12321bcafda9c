"""Controls: with CONTROLS_ENABLED a service can be killed, paused and slowed down through the broker, on purpose.

The control room uses it for services that run in containers, where it can send no signals. What is
published to the exchange `control` with a service's name as routing key is heard by every replica of the service that
runs just then: `{"action": "slow", "delay_seconds": 0.5}`.
"""

import asyncio
import os
import signal
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection, keep_connected
from shared.messaging.consumer import Consumer
from shared.messaging.message import Delivery
from shared.observability import metrics
from shared.service import Component
from shared.settings import ServiceSettings
from shared.topology.definition import CONTROL

TOPOLOGY_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Command(BaseModel):
    """What a service is told to do. `delay_seconds` counts for `slow` alone; 0 ends it."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["kill", "pause", "resume", "slow"]
    delay_seconds: float = Field(default=0.5, ge=0, le=60)


def controls(settings: ServiceSettings, service: str, consumer: Consumer) -> list[Component]:
    """The component that listens for commands; none where controls are not enabled."""
    return [Controls(settings.rabbitmq_url, service, consumer)] if settings.controls_enabled else []


class Controls:
    """Does what it is told, for as long as this process lives: the next one starts afresh."""

    def __init__(self, url: str, service: str, consumer: Consumer) -> None:
        self._url, self._service, self._consumer = url, service, consumer
        self._is_paused = False
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        name = f"{self._service} controls"
        listening = keep_connected(self._url, name, self._listen, lambda _problem: None)
        self._tasks = [asyncio.create_task(work, name=name) for work in (listening, self._obey())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """Being paused makes a service unready; being unreachable for commands does not."""
        return "paused by an operator" if self._is_paused else None

    async def _listen(self, connection: Connection) -> None:
        while not connection.closed.done():
            channel = await connection.channel()
            try:
                await channel.listen(CONTROL, self._service, self._hear)
                await asyncio.shield(channel.closed)
            except BrokerUnavailable as error:
                logger.warning("controls not heard", reason=str(error))
            await asyncio.wait([connection.closed], timeout=TOPOLOGY_POLL_SECONDS)

    def _hear(self, delivery: Delivery) -> None:
        try:
            self._commands.put_nowait(Command.model_validate_json(delivery.message.body))
        except ValidationError as error:
            logger.warning("control not understood", error=str(error.errors(include_url=False, include_input=False)))

    async def _obey(self) -> None:
        """One after the other, in the order in which they were heard."""
        while True:
            command = await self._commands.get()
            logger.warning("controlled by an operator", action=command.action)
            match command.action:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "pause":
                    await self._pause(True)
                case "slow":
                    self._slow_down(command.delay_seconds)
                case "resume":
                    self._slow_down(0)
                    await self._pause(False)

    async def _pause(self, paused: bool) -> None:
        self._is_paused = paused
        metrics.paused.set(paused)
        await (self._consumer.pause() if paused else self._consumer.resume())

    def _slow_down(self, delay_seconds: float) -> None:
        metrics.slowed_seconds.set(delay_seconds)
        self._consumer.slow_down(delay_seconds)

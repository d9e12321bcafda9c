"""Process control over the broker: with CONTROLS_ENABLED a service can be killed, paused and slowed down.

The control room uses it for services in containers, to which it can't send signals. A command such as
`{"action": "slow", "delay_seconds": 0.5}`, published to the exchange `control` with a service's name as routing key,
reaches every replica of the service that runs at that moment.
"""

import asyncio
import os
import signal
from functools import partial
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contract import CONTROL
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import ConnectedComponent, Connection
from shared.messaging.consumer import Consumer
from shared.messaging.message import Delivery
from shared.observability import metrics
from shared.service import Component
from shared.settings import ServiceSettings

TOPOLOGY_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class Command(BaseModel):
    """`delay_seconds` is for `slow` alone; 0 ends it."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["kill", "pause", "resume", "slow"]
    delay_seconds: float = Field(default=0.5, ge=0, le=60)


def controls(settings: ServiceSettings, service: str, consumer: Consumer) -> list[Component]:
    """The component that listens for commands; none where controls are not enabled."""
    return [Controls(settings.rabbitmq_url, service, consumer)] if settings.controls_enabled else []


class Controls(ConnectedComponent):
    """Carries out the commands that arrive. Their effects end with the process."""

    def __init__(self, url: str, service: str, consumer: Consumer) -> None:
        super().__init__(url, f"{service} controls")
        self._service, self._consumer = service, consumer
        self._is_paused = False

    def problem(self) -> str | None:
        """A pause makes the service not ready. Without a connection for commands it is as ready as ever."""
        return "paused by an operator" if self._is_paused else None

    async def _use(self, connection: Connection) -> None:
        async with asyncio.TaskGroup() as commands:
            while not connection.closed.done():
                try:
                    channel = await connection.channel()
                    await channel.listen(CONTROL, self._service, partial(self._receive, commands))
                    await asyncio.shield(channel.closed)
                except BrokerUnavailable as error:
                    logger.warning("controls.not_listening", reason=str(error))
                await asyncio.wait([connection.closed], timeout=TOPOLOGY_POLL_SECONDS)

    def _receive(self, commands: asyncio.TaskGroup, delivery: Delivery) -> None:
        try:
            command = Command.model_validate_json(delivery.message.body)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            logger.warning("controls.command_refused", error=str(errors))
        else:
            commands.create_task(self._execute(command))

    async def _execute(self, command: Command) -> None:
        logger.warning("controls.command_received", action=command.action)
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

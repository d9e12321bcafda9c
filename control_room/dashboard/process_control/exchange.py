"""Process control by messages through the exchange `control`, for services that run with `CONTROLS_ENABLED=true`."""

import json
from collections.abc import Mapping

from control_room.dashboard.process_control import Action, ControlFailed, ProcessState
from control_room.dashboard.snapshots.services import WatchedService
from shared.contract import CONTROL
from shared.management import Management, ManagementError
from shared.waiting import poll

SLOW_DELAY_SECONDS = 2.0
POLL_SECONDS = 0.05
DONE_WITHIN_SECONDS = 5.0


STATE_AFTER = {
    Action.PAUSE: ProcessState.PAUSED,
    Action.SLOW: ProcessState.SLOW,
    Action.RESUME: ProcessState.RUNNING,
}


class ExchangeControl:
    """Implements ProcessControl. The state is what the watched services report in `/metrics`."""

    actions: Mapping[Action, str] = {
        Action.KILL: "Ends each of its processes at once (kill -9), whatever it is doing. Its container starts again.",
        Action.PAUSE: "Lets it take no more messages: they wait in its queues. It still answers calls.",
        Action.SLOW: f"Lets each message wait {SLOW_DELAY_SECONDS:g} s before it is handled.",
        Action.RESUME: "",
    }

    def __init__(self, services: Mapping[str, WatchedService], management: Management) -> None:
        self._services, self._management = services, management

    def state(self, service: str) -> ProcessState:
        return self._services[service].view.process

    async def apply(self, action: Action, service: str) -> None:
        if action is Action.SLOW:
            await self._command(service, action="resume")
            await self._command(service, action="slow", delay_seconds=SLOW_DELAY_SECONDS)
        else:
            await self._command(service, action=action.value)
        if action in STATE_AFTER:
            await self._until(service, STATE_AFTER[action])

    async def _command(self, service: str, **command: object) -> None:
        """Send the command to every replica. Raises ControlFailed, also if no replica takes it."""
        message = {
            "properties": {},
            "routing_key": service,
            "payload": json.dumps(command),
            "payload_encoding": "string",
        }
        try:
            answer = await self._management.post("exchanges", self._management.vhost, CONTROL, "publish", body=message)
        except ManagementError as error:
            raise ControlFailed(f"{service} can't be told: {error}") from error
        if not answer["routed"]:
            raise ControlFailed(f"{service} does not listen: it does not run, or it runs without CONTROLS_ENABLED=true")

    async def _until(self, service: str, state: ProcessState) -> None:
        await poll(
            self._services[service].look,
            within_seconds=DONE_WITHIN_SECONDS,
            every_seconds=POLL_SECONDS,
            until=lambda _: self.state(service) is state,
        )
        if self.state(service) is not state:
            raise ControlFailed(f"{service} got the command, and is not {state} yet")

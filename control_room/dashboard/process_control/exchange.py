"""Process control by messages through the exchange `control`, for services that run with `CONTROLS_ENABLED=true`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from control_room.background import running
from control_room.dashboard.pace import Pace
from control_room.dashboard.process_control import Action, ControlFailed, ProcessState
from control_room.operations.addresses import SystemAddresses
from control_room.operations.replicas import parsed, replicas
from shared.contract import CONTROL
from shared.management import Management, ManagementError
from shared.waiting import poll

SLOW_DELAY_SECONDS = 2.0
POLL_SECONDS = 0.05
ANSWER_SECONDS = 1.5
DONE_WITHIN_SECONDS = 5.0


STATE_AFTER = {
    Action.PAUSE: ProcessState.PAUSED,
    Action.SLOW: ProcessState.SLOW,
    Action.RESUME: ProcessState.RUNNING,
}


class ExchangeControl:
    """Implements ProcessControl. The state is what the services report in `/metrics`. Use `exchange_control`."""

    actions: Mapping[Action, str] = {
        Action.KILL: "Ends each of its processes at once (kill -9), whatever it is doing. Its container starts again.",
        Action.PAUSE: "Lets it take no more messages: they wait in its queues. It still answers calls.",
        Action.SLOW: f"Lets each message wait {SLOW_DELAY_SECONDS:g} s before it is handled.",
        Action.RESUME: "",
    }

    def __init__(self, urls: Mapping[str, str], management: Management, http: httpx.AsyncClient, pace: Pace) -> None:
        self._urls, self._management, self._http, self._pace = urls, management, http, pace
        self._states = dict.fromkeys(urls, ProcessState.RUNNING)

    async def watch(self) -> None:
        """Keep the states up to date until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.gather(*(self._look(service) for service in self._urls))
            await self._pace.next_look(began)

    def state(self, service: str) -> ProcessState:
        return self._states[service]

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
        seen = await poll(
            lambda: self._look(service),
            within_seconds=DONE_WITHIN_SECONDS,
            every_seconds=POLL_SECONDS,
            until=lambda seen: seen is state,
        )
        if seen is not state:
            raise ControlFailed(f"{service} got the command, and is not {state} yet")

    async def _look(self, service: str) -> ProcessState:
        self._states[service] = state = await self._reported_by(service)
        return state

    async def _reported_by(self, service: str) -> ProcessState:
        """RUNNING if nothing answers: a pause ends with its process."""
        try:
            pages = [await self._http.get(f"{url}/metrics") for url in await replicas(self._urls[service])]
        except (OSError, httpx.HTTPError):
            return ProcessState.RUNNING
        reported = {sample.name for page in pages for sample in parsed(page.text) if sample.value}
        if "order_rail_paused" in reported:
            return ProcessState.PAUSED
        return ProcessState.SLOW if "order_rail_slowed_seconds" in reported else ProcessState.RUNNING


@asynccontextmanager
async def exchange_control(addresses: SystemAddresses, pace: Pace) -> AsyncIterator[ExchangeControl]:
    """Control of the system's services; their states are read as often as `pace` allows."""
    async with Management(addresses) as management, httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as http:
        control = ExchangeControl(addresses.services, management, http, pace)
        async with running(control.watch(), "process control"):
            yield control

"""Process control by messages, for services that run with `CONTROLS_ENABLED=true`: through the exchange `control`."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import httpx

from control_room.background import running
from control_room.dashboard.pace import Pace
from control_room.dashboard.process_control import ControlFailed, ProcessState
from control_room.operations.addresses import SystemAddresses
from control_room.operations.replicas import parsed, replicas
from shared.management import Management, ManagementError
from shared.topology.definition import CONTROL

SLOW_DELAY_SECONDS = 2.0
POLL_SECONDS = 0.05
ANSWER_SECONDS = 1.5
DONE_WITHIN_SECONDS = 5.0


class ExchangeControl:
    """Use it as an async context manager. The state is what the services themselves say, as old as `pace` allows."""

    meanings: Mapping[str, str] = {
        "kill": "Ends each of its processes at once (kill -9), whatever it had at hand. Its container starts again.",
        "pause": "Lets it take no more messages: they wait in its queues. It still answers calls.",
        "slow": f"Lets each message wait {SLOW_DELAY_SECONDS:g} s before it is handled.",
    }
    can_hold_down = False

    def __init__(self, addresses: SystemAddresses, pace: Pace) -> None:
        self._pace = pace
        self._services = addresses.services
        self._management = Management(addresses)
        self._http = httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False)
        self._states = dict.fromkeys(self._services, ProcessState.RUNNING)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for part in (self._management, self._http, running(self._watch(), "process control")):
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def state(self, service: str) -> ProcessState:
        self._url(service)
        return self._states[service]

    async def kill(self, service: str, *, hold_down: bool = False) -> None:
        if hold_down:
            raise ControlFailed(
                f"{service} can't be kept down from here: whoever runs its containers starts them again"
            )
        await self._tell(service, {"action": "kill"})

    async def start(self, service: str) -> None:
        raise ControlFailed(f"{service} can't be started from here: whoever runs its containers does that")

    async def pause(self, service: str) -> None:
        await self._tell(service, {"action": "pause"})
        await self._until(service, ProcessState.PAUSED)

    async def slow(self, service: str) -> None:
        await self._tell(service, {"action": "resume"})
        await self._tell(service, {"action": "slow", "delay_seconds": SLOW_DELAY_SECONDS})
        await self._until(service, ProcessState.SLOW)

    async def resume(self, service: str) -> None:
        await self._tell(service, {"action": "resume"})
        await self._until(service, ProcessState.RUNNING)

    def _url(self, service: str) -> str:
        try:
            return self._services[service]
        except KeyError:
            raise ControlFailed(f"there is no service {service}; expected one of {', '.join(self._services)}") from None

    async def _tell(self, service: str, command: Mapping[str, object]) -> None:
        """Each of its replicas hears it, or ControlFailed is raised since nobody does."""
        self._url(service)
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
        deadline = asyncio.get_running_loop().time() + DONE_WITHIN_SECONDS
        while await self._look(service) is not state:
            if asyncio.get_running_loop().time() > deadline:
                raise ControlFailed(f"{service} was told, and is not {state} yet")
            await asyncio.sleep(POLL_SECONDS)

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.gather(*(self._look(service) for service in self._services))
            await self._pace.next_look(began)

    async def _look(self, service: str) -> ProcessState:
        self._states[service] = state = await self._said_by(service)
        return state

    async def _said_by(self, service: str) -> ProcessState:
        """What the service says now. One that says nothing is held by nobody: what it was told ended with it."""
        try:
            pages = [await self._http.get(f"{url}/metrics") for url in await replicas(self._services[service])]
        except (OSError, httpx.HTTPError):
            return ProcessState.RUNNING
        held = {sample.name for page in pages for sample in parsed(page.text) if sample.value}
        if "order_rail_paused" in held:
            return ProcessState.PAUSED
        return ProcessState.SLOW if "order_rail_slowed_seconds" in held else ProcessState.RUNNING

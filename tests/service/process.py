"""One service as a real process, and what a test asks it over HTTP."""

import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from control_room.launcher.children import end, spawn, tail
from control_room.launcher.ports import free_ports
from control_room.operations.databases import databases_of, upgrade
from shared import contract
from shared.settings import BrokerSettings
from tests.support import DELAYS_VARIABLES, eventually, metric

OPERATOR_TOKEN = "the-operators-token"
OPERATOR = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
STOP_SECONDS = 10.0


class RunningService:
    """`http` has the service's address as its base."""

    def __init__(self, process: Process, http: httpx.AsyncClient, log: Path) -> None:
        self.process, self.http, self.log = process, http, log

    @property
    def port(self) -> int:
        return self.http.base_url.port or 0

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of `order_rail_<name>` that carry these labels."""
        return metric((await self.http.get("/metrics")).text, name, **labels)

    async def audit(self) -> list[dict[str, Any]]:
        answer = await self.http.get("/audit", headers=OPERATOR)
        return [json.loads(line) for line in answer.text.splitlines()]

    async def answers(self, path: str, status: int) -> httpx.Response | None:
        """The answer of a GET if it has this status; for `eventually`."""
        try:
            answer = await self.http.get(path)
        except httpx.TransportError:
            assert self.process.returncode is None, tail(self.log)
            return None
        return answer if answer.status_code == status else None


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of an answer, which must be well-formed."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["type"]) == (status, "about:blank")
    assert body["title"]
    assert body["detail"]
    return body


@asynccontextmanager
async def running(
    service: str,
    settings: BrokerSettings,
    directory: Path,
    *,
    until: str = "/readyz",
    ends_with: int = 0,
    has_tables: bool = True,
    **environment: str,
) -> AsyncIterator[RunningService]:
    """Run `python -m <service>` and wait until it answers `until`; afterwards SIGTERM must end it with status 0.

    `ends_with`: another status, of a service that does not live to see the SIGTERM. `has_tables`: whether its databases
    are upgraded before.
    """
    (port,) = free_ports(1)
    variables = {
        **os.environ,
        "RABBITMQ_URL": settings.rabbitmq_url,
        **{name: ",".join(f"{delay:g}" for delay in getattr(settings, name.lower())) for name in DELAYS_VARIABLES},
        "HTTP_PORT": str(port),
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
        "DATABASE_URL": f"sqlite:///{directory / service}.db",
        "GATEWAY_URL": f"simulated+sqlite:///{directory / 'gateway'}.db",
        "GATEWAY_LATENCY_SECONDS": "0",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    if has_tables:
        own = {contract.service(service).variable("DATABASE_URL"): variables["DATABASE_URL"]}
        await upgrade(databases_of([contract.service(service)], {**variables, **own}, str), print)
    log = directory / f"{service}-{port}.log"
    process = await spawn([sys.executable, "-m", service], variables, log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as http:
            ran = RunningService(process, http, log)
            await eventually(lambda: ran.answers(until, 200), 30, f"{service} to answer {until}; its log: {log}")
            yield ran
    finally:
        status = await end(process, STOP_SECONDS)
    assert status == ends_with, f"{service} ended with status {status}:\n{tail(log)}"


def running_alone(service: str, directory: Path, **environment: Any) -> AbstractAsyncContextManager[RunningService]:
    """The same without a broker, for what needs none."""
    nobody = BrokerSettings(rabbitmq_url=f"amqp://guest:s3cret@127.0.0.1:{free_ports(1)[0]}/")
    return running(service, nobody, directory, until="/livez", ends_with=0, **environment)

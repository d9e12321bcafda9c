"""The `order-rail` command as a process, and a system of a module's own for it to work on."""

import json
import os
import sys
import uuid
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from control_room.launcher.system import System, launch
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport, audit
from shared.management import Management
from tests.conftest import QUICK_RETRIES, Broker
from tests.support import eventually

CODE = "from control_room.cli import app; app()"
COMMAND = (sys.executable, "-c", CODE)
OURS = ("RABBITMQ_", "ORDER_SERVICE_", "PAYMENT_SERVICE_", "NOTIFICATION_SERVICE_", "OPERATOR_TOKEN")


@dataclass(frozen=True)
class Ended:
    status: int | None
    output: str
    errors: str


async def order_rail(*arguments: str, cwd: str | Path | None = None, **environment: str) -> Ended:
    """Run it to its end, with no setting of this project in its environment but those given here."""
    return await end_of(await start(*arguments, cwd=cwd, **environment))


async def end_of(process: Process) -> Ended:
    output, errors = await process.communicate()
    return Ended(process.returncode, output.decode(), errors.decode())


async def start(*arguments: str, code: str = CODE, cwd: str | Path | None = None, **environment: str) -> Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = (sys.executable, "-c", code, *arguments)
    return await create_subprocess_exec(*command, env={**inherited, **environment}, cwd=cwd, stdout=PIPE, stderr=PIPE)


def report_of(directory: Path) -> dict[str, Any]:
    """The report of a flash sale or a chaos run."""
    report: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return report


def processes_of(directory: Path) -> list[int]:
    """The ids of those that have the directory in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(directory) in text for text in (*process.cmdline(), *process.environ().values())):
                found.append(process.pid)
    return found


def file_of(system: System) -> tuple[str, str]:
    return "--environment-file", str(system.run.environment_file)


@asynccontextmanager
async def launched(broker: Broker, directory: Path, **environment: str) -> AsyncIterator[System]:
    """A system on the session's broker, in a virtual host of its own."""
    where = {
        "RABBITMQ_URL": broker.amqp_url(f"system-{uuid.uuid4().hex[:8]}"),
        "RABBITMQ_MANAGEMENT_URL": broker.management_url,
    }
    async with launch(directory, environment={**where, **QUICK_RETRIES, **environment}) as system:
        yield system
    async with Management(system.broker_settings) as management:
        await management.delete("vhosts", system.broker_settings.vhost)


async def audited(system: System, settle_seconds: float = 0, **options: Any) -> AuditReport:
    return await audit(SystemAddresses.of(system.environment), settle_seconds, **options)


async def final_audit(system: System, **options: Any) -> AuditReport:
    """The first audit that finds nothing wrong, and no order in flight."""

    async def look() -> AuditReport:
        report = await audited(system, **options)
        assert report.is_final, (report.violations, report.in_flight_orders)
        return report

    return await eventually(look, 60, "a clean audit")

"""Each service's OpenAPI description holds: schemathesis tries to find an answer that it does not allow."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import BrokerSettings
from tests.service.process import OPERATOR, RunningService, running

EXAMPLES = 20
TIMEOUT_SECONDS = 120
STREAM = "/orders/{order_id}/events"

# While there are no orders the stream answers and ends; later schemathesis would find the id of an open order
# in another answer, and follow that order for ever.
RUNS: dict[str, list[list[str]]] = {
    "order_service": [["--include-path", STREAM], ["--exclude-path", STREAM]],
    "payment_service": [[]],
    "notification_service": [[]],
}


def schemathesis(service: RunningService, directory: Path, selection: list[str]) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(service.http.base_url.join("/openapi.json")),
        "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--phases", "examples,coverage,fuzzing",
        "--generation-database", "none", "--no-color", "--request-timeout", "20",
        "--header", f"Authorization: {OPERATOR['Authorization']}", *selection,
    ]  # fmt: skip
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


@pytest.mark.parametrize("name", RUNS)
async def test_schemathesis_finds_nothing(module_broker_settings: BrokerSettings, tmp_path: Path, name: str) -> None:
    async with running(name, module_broker_settings, tmp_path) as service:
        for selection in RUNS[name]:
            done = await asyncio.to_thread(schemathesis, service, tmp_path, selection)
            assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]

        assert (await service.http.get("/readyz")).status_code == 200
        assert len((await service.http.get("/openapi.json")).json()["paths"]) >= 4
        assert (await service.http.get("/docs")).status_code == 200

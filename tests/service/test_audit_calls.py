"""`/audit`: for operators only, and a 503 with one log line per call while the database is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.postgres import PostgresNotInstalled, PrivatePostgres
from tests.service.process import OPERATOR, RunningService, problem, running_alone
from tests.support import eventually

NAMES = ("order_service", "payment_service", "notification_service")


@pytest.fixture
def breakable_postgres(postgres: PrivatePostgres) -> Iterator[PrivatePostgres]:
    """One that may be stopped. `postgres` is only asked for so that this is skipped where there is none."""
    try:
        with PrivatePostgres() as server:
            yield server
    except PostgresNotInstalled as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture
async def services(breakable_postgres: PrivatePostgres, tmp_path: Path) -> AsyncIterator[list[RunningService]]:
    """All three on PostgreSQL, without a broker."""
    gateway = f"simulated+{breakable_postgres.create_database()}"
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                running_alone(name, tmp_path, GATEWAY_URL=gateway,
                        DATABASE_URL=breakable_postgres.create_database())
            )
            for name in NAMES
        ]  # fmt: skip


async def test_an_operator_gets_rows_and_a_503_while_the_database_is_away(
    services: list[RunningService], breakable_postgres: PrivatePostgres
) -> None:
    for service in services:
        answer = await service.http.get("/audit", headers=OPERATOR)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        for refused in ("", "Bearer", "Bearer wrong", "Basic b3BlcmF0b3I="):
            answer = await service.http.get("/audit", headers={"Authorization": refused} if refused else {})
            problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
    await asyncio.to_thread(breakable_postgres.stop)

    for service in services:
        before = len(service.log.read_text())
        for method in ("GET", "HEAD", "GET"):
            answer = await service.http.request(method, "/audit", headers=OPERATOR)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        lines = service.log.read_text()[before:].splitlines()
        assert sum("/audit" in line for line in lines) == 3
        assert not [line for line in lines if "Traceback" in line or "[error" in line]

    await asyncio.to_thread(breakable_postgres.start)
    for service in services:
        await eventually(lambda service=service: answers(service), 20, "the rows")  # type: ignore[misc]


async def answers(service: RunningService) -> bool:
    return (await service.http.get("/audit", headers=OPERATOR)).status_code == 200

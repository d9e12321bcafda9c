"""Faults of the services' databases."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import NoEvidence, SystemUnderTest
from shared.contract import services

COMMITS = "order_rail_group_commits_total"
WRITERS = {each.name: (contract.name, each.label) for contract in services() for each in contract.databases}
"""By database file: the service that writes it, and the database's name in metrics."""
WAIT_FOR_LOCK_SECONDS = 10.0
LAST_COMMIT_SECONDS = 0.3
"""For a commit that was under way when the lock was taken to be counted."""


@fault("database-locked", tuple(WRITERS), lasts_seconds=(3.0, 9.0), allowance_seconds=8)
async def database_locked(system: SystemUnderTest, injection: Injection) -> None:
    """Another process holds the write lock of a database."""
    service, name = WRITERS[injection.target]
    label = {"database": name}
    with injection.active():
        async with locked(system, injection.target) as sentence:
            injection.saw(sentence)
            await asyncio.sleep(LAST_COMMIT_SECONDS)
            before = await system.counter(service, COMMITS, label)
            await asyncio.sleep(injection.seconds - LAST_COMMIT_SECONDS)
            during = await system.counter(service, COMMITS, label)
    if during != before:
        raise NoEvidence(f"{during - before:g} transactions were committed to {injection.target} under the lock")
    after = await system.counter(service, COMMITS, label, during + 1)
    injection.saw(f"{service} committed nothing to it meanwhile, and {after - during:g} transactions soon after")


@asynccontextmanager
async def locked(system: SystemUnderTest, database: str) -> AsyncIterator[str]:
    """This process holds the write lock of a database while the block runs. Yields a sentence about it."""
    file = system.system.run.path / f"{database}.db"
    connection = sqlite3.connect(file, WAIT_FOR_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        try:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise NoEvidence(f"{file.name} could not be locked: {error}") from error
        yield f"process {os.getpid()} held the lock of {file.name}"
    finally:
        connection.close()

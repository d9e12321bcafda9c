"""`POST /prune` and `GET /milestones`: operators' calls that delete old records, and say how far."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from shared.http.operators import operator
from shared.http.problems import documented
from shared.ids import EPOCH, first_id
from shared.persistence import milestones
from shared.persistence.database import Database
from shared.persistence.milestones import PRUNED_BEFORE, YOUNGEST_SECONDS, Milestone, pruned_before
from shared.persistence.prune import Prune, Stretch
from shared.whole_number import WholeNumber

MAX_ROWS = 1000


class Batch(NamedTuple):
    """How many rows were deleted by their keys, and how long the database was busy with it."""

    records: int
    seconds: float


class Prunable:
    """Rows of one database that go with old subjects. Remembers where the last batch ended.

    PostgreSQL would else read again, for each batch, over the entries of all rows that are deleted and not vacuumed.
    """

    def __init__(self, database: Database, prune: Prune) -> None:
        self._database, self._prune = database, prune
        self._after = ""

    async def delete(self, before: str, limit: int) -> Batch:
        """Delete a batch of rows about subjects whose ids come before this one."""
        keys, seconds = await self._database.write(self._prune, Stretch(self._after, before, limit))
        self._after = keys[-1] if keys else ""
        return Batch(len(keys), seconds)


class Horizon(NamedTuple):
    """What began before this moment may be pruned. `held_by`: the subject that holds it back, if any."""

    before: datetime
    held_by: str | None = None


HorizonOf = Callable[[datetime], Awaitable[Horizon]]
"""How far a service may be pruned, at most up to the given moment."""


async def no_limit(before: datetime) -> Horizon:
    """For a service that can't say what others are not done with."""
    return Horizon(before)


def _time(value: object) -> object:
    """Not a number, which pydantic would take for a time too."""
    if not isinstance(value, str) or not re.match(r"\d{4}-", value):
        raise ValueError("expected a time such as 2026-08-28T00:00:00Z")
    return value


class PruneRequest(BaseModel):
    """One batch, to be asked for again and again. What is younger than a day stays in any case."""

    before: Annotated[AwareDatetime, BeforeValidator(_time)] = Field(
        description="Records of what began before are deleted", examples=["2026-08-28T00:00:00Z"]
    )
    limit: WholeNumber = Field(ge=1, le=MAX_ROWS, description="How many records at most, in one commit")


class PruneAnswer(BaseModel):
    """`before`: how far this service may be pruned, up to what was asked for. `more`: whether to ask again."""

    before: AwareDatetime
    held_by: str | None = Field(description="The oldest subject that is not settled, if it holds `before` back")
    deleted: int = Field(description="Records; what belongs to a record, such as its timeline, goes with it")
    seconds: float = Field(description="How long the database was busy with that, the commit left out")
    more: bool


def prune_router(database: Database, prunables: Sequence[Prunable], horizon_of: HorizonOf) -> APIRouter:
    """The two calls of a service. Its milestones are in `database`."""
    router = APIRouter(tags=["operators"], dependencies=[Depends(operator)])

    @router.post("/prune", responses=documented(401, 413, 422, 503))
    async def prune(request: PruneRequest) -> PruneAnswer:
        """Delete a batch of old records, the oldest first. `order-rail prune` calls it as it should be.

        All services have to agree on `before`, and a dead letter has to be younger: each says how far it
        may go, since others can't know what is not settled there.
        """
        before, held_by = await _reached(database, horizon_of, request.before)
        for prunable in prunables:
            batch = await prunable.delete(first_id(before), request.limit)
            if batch.records:
                return PruneAnswer(
                    before=before, held_by=held_by, deleted=batch.records, seconds=batch.seconds, more=True
                )
        return PruneAnswer(before=before, held_by=held_by, deleted=0, seconds=0, more=False)

    @router.get("/milestones", responses=documented(401, 503))
    async def read_milestones() -> dict[str, AwareDatetime]:
        """`pruned_before`: older records may be gone. `restored_to`: the moment of a restored backup.

        A milestone that was never reached is left out.
        """
        return await database.look_up(milestones.read, None)

    return router


async def _reached(database: Database, horizon_of: HorizonOf, asked: datetime) -> Horizon:
    """How far to prune now. The milestone is recorded before anything is deleted: `milestones.is_pruned` needs that."""
    youngest = datetime.now(UTC) - timedelta(seconds=YOUNGEST_SECONDS)
    before = max(EPOCH, min(asked, youngest)).astimezone(UTC)
    reached = await pruned_before(database)
    if reached is not None and before <= reached:
        return Horizon(before)
    horizon = await horizon_of(before)
    await database.write(milestones.reach, Milestone(PRUNED_BEFORE, horizon.before))
    return horizon

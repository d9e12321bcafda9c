"""One trace for one order, through all services."""

import asyncio

import pytest

from shared.observability.tracing import current_trace_id, current_traceparent, start_span

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


async def test_a_span_stays_in_its_parents_trace_under_an_id_of_its_own() -> None:
    traceparent = start_span(PARENT)

    assert traceparent.startswith(f"00-{TRACE_ID}-")
    assert traceparent.endswith("-01")
    assert traceparent != PARENT
    assert (current_traceparent(), current_trace_id()) == (traceparent, TRACE_ID)


@pytest.mark.parametrize(
    "parent",
    [None, "", "nonsense", PARENT[:-1], PARENT + "0", PARENT.upper(), PARENT.replace("00-", "ff-", 1),
     f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{TRACE_ID}-{'0' * 16}-01", PARENT + "\n"],
)  # fmt: skip
async def test_a_missing_or_malformed_parent_begins_a_new_trace(parent: str | None) -> None:
    traceparent = start_span(parent)

    assert TRACE_ID not in traceparent
    assert len(traceparent) == len(PARENT)
    assert start_span(traceparent)[3:35] == traceparent[3:35]


async def test_tasks_do_not_see_each_others_trace() -> None:
    seen: list[str | None] = []

    async def work() -> None:
        seen.append(current_traceparent())
        start_span(None)
        await asyncio.sleep(0)
        seen.append(current_trace_id())

    before = current_traceparent()
    await asyncio.gather(asyncio.create_task(work()), asyncio.create_task(work()))

    assert seen[:2] == [before, before]
    assert seen[2] != seen[3]
    assert current_traceparent() == before

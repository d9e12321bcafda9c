"""What the background audit makes of the result of an audit process."""

import json

import pytest

from control_room.dashboard.pace import Pace
from control_room.dashboard.snapshots.auditing import Auditing, pauses
from control_room.operations.addresses import SystemAddresses

PREFIX = "The audit could not be carried out: "
ADDRESSES = SystemAddresses(services={})


@pytest.mark.parametrize(("status", "is_clean"), [(0, True), (1, False)])
def test_each_verdict_replaces_the_last_and_a_failed_audit_does_not(status: int, is_clean: bool) -> None:
    auditing = Auditing(ADDRESSES, (), lambda: 0.0, Pace())
    for exit_status, clean in ((1 - status, not is_clean), (status, is_clean)):
        auditing._conclude(exit_status, json.dumps({"clean": clean, "violations": []}).encode(), "", 1.0)
    auditing._conclude(2, b"", "RabbitMQ: it is away", 1.0)
    assert auditing.last is not None
    assert (auditing.last.report["clean"], auditing.trouble) == (is_clean, "RabbitMQ is away")


@pytest.mark.parametrize(
    ("errors", "why"),
    [
        (
            f"{PREFIX}{PREFIX}payment_service: it does not answer at http://127.0.0.1:8001",
            "payment_service does not answer",
        ),
        (f"a warning\n{PREFIX}the journal can't be read.", "the journal can't be read"),
        ("", "it ended with status 2"),
    ],
)
def test_why_an_audit_was_not_possible_is_said_once(errors: str, why: str) -> None:
    auditing = Auditing(ADDRESSES, (), lambda: 0.0, Pace())
    auditing._conclude(2, b"", errors, 1.0)
    assert auditing.trouble == why


@pytest.mark.parametrize(
    ("processor_seconds", "expected"), [(0.1, (5.0, 120.0)), (1.0, (20.0, 200.0)), (100.0, (900.0, 900.0))]
)
def test_audits_take_a_twentieth_of_a_processor_at_most_and_a_tenth_of_that_while_no_page_is_open(
    processor_seconds: float, expected: tuple[float, float]
) -> None:
    assert pauses(processor_seconds) == pytest.approx(expected)

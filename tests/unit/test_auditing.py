"""What the background audit makes of each audit that it ran."""

import json

from control_room.dashboard.pace import Pace
from control_room.dashboard.snapshots import Auditing
from control_room.operations.addresses import SystemAddresses

ADDRESSES = SystemAddresses(services={})
CLEAN = json.dumps({"clean": True, "violations": []}).encode()
WRONG = json.dumps({"clean": False, "violations": [{"subject": "an order"}]}).encode()


def auditing() -> Auditing:
    return Auditing(ADDRESSES, (), lambda: 0.0, Pace())


def told(audits: Auditing) -> str:
    if audits.last is None:
        return "nothing"
    return "the books agree" if audits.last.is_clean else "something is wrong"


def test_books_that_agree_are_told_at_once() -> None:
    audits = auditing()
    audits._conclude(0, CLEAN, "", 1.0)
    assert told(audits) == "the books agree"


def test_what_is_wrong_twice_is_told() -> None:
    audits = auditing()
    audits._conclude(1, WRONG, "", 1.0)
    assert told(audits) == "nothing"
    audits._conclude(1, WRONG, "", 1.0)
    assert told(audits) == "something is wrong"


def test_what_is_wrong_once_is_not_told() -> None:
    audits = auditing()
    audits._conclude(1, WRONG, "", 1.0)
    audits._conclude(0, CLEAN, "", 1.0)
    audits._conclude(1, WRONG, "", 1.0)
    assert told(audits) == "the books agree"


def test_an_audit_that_could_not_be_carried_out_says_why_and_leaves_the_last_verdict() -> None:
    audits = auditing()
    audits._conclude(0, CLEAN, "", 1.0)
    audits._conclude(2, b"", "RabbitMQ: it is away", 1.0)
    assert audits.trouble == "RabbitMQ: it is away"
    assert told(audits) == "the books agree"

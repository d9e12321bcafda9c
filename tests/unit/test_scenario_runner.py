"""What the runner of scenarios says when one can't be played to its end."""

import httpx
import pytest

from control_room.experiments.scenarios import Outcome, Runner, Scenario, Target
from control_room.experiments.scenarios.scenario import Playing
from control_room.experiments.traffic import Unexpected
from control_room.operations.addresses import SystemAddresses
from tests.support import eventually

PAYMENTS = "http://127.0.0.1:8001"
AGAIN = "try again once everything runs"
ADDRESSES = SystemAddresses(services={"order_service": "http://127.0.0.1:8000", "payment_service": PAYMENTS})
UNREACHABLE = httpx.ConnectError("All connection attempts failed", request=httpx.Request("GET", f"{PAYMENTS}/metrics"))


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (UNREACHABLE, f"payment_service does not answer: {AGAIN}"),
        (ConnectionRefusedError(111, "Connect call failed"), f"a service does not answer: {AGAIN}"),
        (Unexpected("two were charged twice"), "two were charged twice"),
        (KeyError("charges"), "it failed with a KeyError: see the log of the control room"),
    ],
)
async def test_a_scenario_that_breaks_off_says_what_is_missing_and_what_to_do(error: Exception, seen: str) -> None:
    async def play(_playing: Playing) -> Outcome:
        raise error

    runner = Runner(Target(ADDRESSES))
    runner.start(Scenario("broken", "Broken", "Nothing to see.", play), {})
    await eventually(lambda: runner.current is None)
    outcome = runner.runs["broken"].outcome
    assert outcome is not None
    assert (outcome.seen, outcome.held) == (seen, False)

"""The contracts of the services: what is registered fits together, and a service keeps to its own."""

import gc
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared import contract
from shared.assemble import check
from shared.contract import ContractError, Pattern, QueueContract, RetryDelays, ServiceContract
from shared.events import Event, OrderPlaced, PaymentSucceeded
from shared.messaging.processor import Subscription

PAYMENT = contract.service("payment_service")


async def handle(event: Any, attempt: int) -> Any: ...


def subscription(queue: str, event: Any) -> Subscription:
    return Subscription(queue=queue, handlers={event: handle}, concurrency=1)


@pytest.mark.parametrize(
    "subscriptions",
    [
        pytest.param([], id="a queue without a handler"),
        pytest.param(
            [subscription("payment_service.charge", OrderPlaced), subscription("payment_service.more", OrderPlaced)],
            id="a handler without a queue",
        ),
        pytest.param([subscription("payment_service.charge", PaymentSucceeded)], id="an event that is not bound"),
    ],
)
def test_handlers_that_differ_from_the_contract_are_refused(subscriptions: list[Subscription]) -> None:
    with pytest.raises(ContractError, match="payment_service"):
        check(PAYMENT, subscriptions)


RABBITMQ_URL = RetryDelays("RABBITMQ_URL", (1.0,), "")
OTHER = ServiceContract(name="other_service", title="Other", port=8100)


@pytest.mark.parametrize(
    ("other", "error"),
    [
        (replace(OTHER, name="payment_service"), "the same name: payment_service"),
        (replace(OTHER, port=PAYMENT.port), "the same port: 8001"),
        (replace(OTHER, exchange="payments"), "the same exchange: payments"),
        (replace(OTHER, exchange="x", publishes=(PaymentSucceeded,)), "the same event type: payment.succeeded.v1"),
        (replace(OTHER, queues=(QueueContract("q", "", ()), QueueContract("q", "", ()))), "queue: other_service.q"),
        (replace(OTHER, name="other-service"), "'other-service' is no name"),
        (replace(OTHER, exchange="control"), "'control' is no name"),
        (replace(OTHER, queues=(QueueContract("a.b", "", ()),)), "'a.b' is no name"),
        (replace(OTHER, queues=(QueueContract("q", "", (), retry_delays=RABBITMQ_URL),)), "RABBITMQ_URL must end in"),
    ],
)
def test_what_two_services_claim_is_told(other: ServiceContract, error: str) -> None:
    with pytest.raises(ContractError, match=re.escape(error)):
        contract.checked([*contract.services(), other])


@pytest.mark.parametrize("given", ["order.placed.v1", "points"])
def test_an_event_class_without_a_type_of_its_own_is_refused(given: str) -> None:
    """With it in the union of all events, no event at all could be decoded."""
    with pytest.raises(TypeError, match="type must be a Literal"):
        type("Nameless", (Event,), {"__annotations__": {"type": str}, "type": given})
    gc.collect()  # as long as the class exists, it is in the union
    assert "Nameless" not in {each.__name__ for each in Event.__subclasses__()}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "other_service = nowhere.contract:CONTRACT",
            "nowhere.contract:CONTRACT can't be loaded: ModuleNotFoundError",
        ),
        ("gone_service = gone_service.contract:CONTRACT", "if the service was taken out, install the project again"),
        ("other_service = shared.contract:GROUP", "other_service = shared.contract:GROUP is no ServiceContract"),
    ],
)
def test_a_registry_line_that_leads_nowhere_ends_every_process_with_a_sentence(
    line: str, error: str, tmp_path: Path
) -> None:
    distribution = tmp_path / "other-1.0.dist-info"
    distribution.mkdir()
    (distribution / "entry_points.txt").write_text(f"[order_rail.services]\n{line}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (["-m", "order_service"], ["-c", "from control_room.cli import app; app()", "topology", "show"]):
        ended = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert error in ended.stderr


def test_a_service_that_publishes_needs_an_exchange() -> None:
    with pytest.raises(ContractError, match="'' is no name"):
        contract.checked([replace(OTHER, publishes=(OrderPlaced,))])


def test_an_event_that_nobody_publishes_can_not_be_taken() -> None:
    deaf = replace(OTHER, queues=(QueueContract("q", "", takes=(OrderPlaced,)),))
    with pytest.raises(ContractError, match=r"no registered service publishes order\.placed\.v1"):
        contract.checked([deaf])


def test_a_binding_takes_every_version_of_an_event() -> None:
    assert contract.patterns(PAYMENT.queue("charge")) == (
        Pattern("orders", "order.placed.*"),
        Pattern("orders", "order.cancelled.*"),
    )

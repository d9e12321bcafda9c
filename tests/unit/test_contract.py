"""The contracts of the services: what is registered fits together, and a service keeps to its own."""

import gc
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from control_room.operations.databases import database_variables
from docs.generate import GENERATED
from shared import contract
from shared.assemble import check
from shared.contract import ContractError, Pattern, QueueContract, RetryDelays, ServiceContract
from shared.events import Event, OrderPlaced, PaymentSucceeded
from shared.messaging.processor import Subscription

ROOT = Path(__file__).parents[2]
NAMES = [service.name for service in contract.services()]
PAYMENT = contract.service("payment_service")


async def handle(event: Any, attempt: int) -> Any: ...


def subscription(queue: str, event: Any) -> Subscription:
    return Subscription(queue=queue, handlers={event: handle}, concurrency=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_handlers_for_the_queues_of_its_contract_and_no_others(name: str) -> None:
    app = import_module(f"{name}.app")
    app.build(app.Settings(database_url="sqlite:////nowhere/x.db"))  # raises ContractError if they differ


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


@pytest.mark.parametrize("file", GENERATED)
def test_what_is_generated_is_up_to_date(file: str) -> None:
    assert (ROOT / file).read_text() == GENERATED[file](), f"run `make generate` and look at {file}"


def compose_services() -> Mapping[str, str]:
    """Each service of the compose file with its block of text."""
    text = (ROOT / "docker-compose.yml").read_text().partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    blocks = re.split(r"(?m)^  ([a-z_-]+):\n", text)[1:]
    return dict(zip(blocks[::2], blocks[1::2], strict=True))


def assert_published(service: ServiceContract, proxy: str) -> None:
    """The proxy's configuration has the service's port, its replicas that are ready, and all of them."""
    name, address = service.name, f"{service.name}:{service.port}"
    assert f"frontend {name} from published\n    bind :{service.port}\n" in proxy
    assert f"backend {name}_ready from common\n    server-template replica 16 {address} check\n" in proxy
    assert f"backend {name} from common\n    server-template replica 16 {address}\n" in proxy
    assert f"{{ nbsrv({name}) eq 0 }}" in proxy


@pytest.mark.parametrize("service", contract.services(), ids=lambda service: service.name)
def test_the_compose_file_runs_every_registered_service_as_its_contract_says(service: ServiceContract) -> None:
    blocks = compose_services()
    block, password = blocks[service.name], service.variable("RABBITMQ_PASSWORD")
    assert f"command: [python, -m, {service.name}]" in block
    assert f"HTTP_PORT: {service.port}\n" in block
    assert f"amqp://{service.name}:${{{password}:-{service.name}}}@rabbitmq:5672/" in block
    for variable, database in database_variables(service).items():
        url = f"{re.escape(database.scheme)}postgresql://{database.name}:"
        named = re.search(rf"{database.variable}: &([a-z-]+) {url}", block)
        assert named
        assert f"{variable}: *{named[1]}\n" in blocks["migrations"]
        assert f"{database.name}_DATABASE_PASSWORD".upper() in blocks["postgres"]
    assert f"{password}: ${{{password}:-{service.name}}}" in blocks["topology"]
    assert_published(service, (ROOT / "deploy/haproxy/haproxy.cfg").read_text())
    assert f"127.0.0.1:${{{service.variable('PORT')}:-{service.port}}}:{service.port}" in blocks["front_door"]
    for client in ("control_room", "order-rail"):
        assert f"{service.variable('URL')}: http://{service.name}:{service.port}\n" in blocks[client]

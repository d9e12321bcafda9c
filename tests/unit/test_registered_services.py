"""Each registered service keeps to its contract, and is in all files that deploy and document the system."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from control_room.operations.databases import database_variables
from docs.generate import GENERATED
from shared import contract
from shared.contract import ServiceContract

ROOT = Path(__file__).parents[2]
NAMES = [service.name for service in contract.services()]


@pytest.mark.parametrize("name", NAMES)
def test_a_service_has_handlers_for_the_queues_of_its_contract_and_no_others(name: str) -> None:
    app = import_module(f"{name}.app")
    app.build(app.Settings(database_url="sqlite:////nowhere/x.db"))  # raises ContractError if they differ


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

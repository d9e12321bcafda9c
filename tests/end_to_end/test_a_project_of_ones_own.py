"""`order-rail new project`: what it makes keeps to all rules, runs, and can be extended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from control_room.generator.project import register
from control_room.launcher.ports import free_ports
from tests.conftest import Broker
from tests.end_to_end.test_launcher import Up, brought_up
from tests.order_rail import order_rail
from tests.support import eventually, of_the_shop_alone

pytestmark = of_the_shop_alone

ROOT = Path(__file__).parents[2]
AUTHOR = {f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
SHOP = re.compile(
    r"\b(an|about|each|every|no|the|these) orders?\b(?! in| of)|order_id|OrderId|order_service"
    r"|payment|charge|refund|customers?\b|kitchen|pizza|margherita|stripe|flash.sale|chaos|scenario|rail (tour|audit)",
    re.IGNORECASE,
)
MAY_NAME_IT = ("LICENSE", "README.md", "shared/tuning.py", "requirements.txt", "requirements-dev.txt")


class Project:
    """A project that was just made, and a service that was added to it. `environment`: in which its code is found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**AUTHOR, "PYTHONPATH": f"{root.parent / 'registry'}:{root}"}
        register(root.parent / "registry", "order-rail")

    def run(self, *command: str | Path, **environment: str) -> str:
        """Its output. Fails the test if it fails."""
        variables = {**os.environ, **self.environment, **environment}
        ended = subprocess.run(command, cwd=self.root, env=variables, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def tool(self, name: str, *arguments: str, **environment: str) -> str:
        return self.run(Path(sys.executable).with_name(name), *arguments, **environment)

    async def order_rail(self, *arguments: str, **environment: str) -> str:
        ended = await order_rail(*arguments, cwd=self.root, **self.environment, **environment)
        assert ended.status == 0, ended.output + ended.errors
        return ended.output


class Running:
    """The project's system. `addresses`: the variables of its file `environment`."""

    def __init__(self, up: Up, project: Project) -> None:
        self.project, self._file = project, up.run_directory / "environment"
        self.http = httpx.AsyncClient(trust_env=False, timeout=10)
        self._up = up

    @property
    def addresses(self) -> dict[str, str]:
        return {name: str(value) for name, value in self._up.environment.items()}

    @property
    def broker(self) -> dict[str, str]:
        return {name: self.addresses[name] for name in ("RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL")}

    async def command(self, *arguments: str) -> str:
        return await self.project.order_rail(*arguments, "--environment-file", str(self._file))

    async def request(self, **greeting: str) -> str:
        """The URL of a new greeting."""
        answer = await self.http.post(f"{self.addresses['GREETING_SERVICE_URL']}/greetings", json=greeting)
        assert answer.status_code == 202
        return f"{self.addresses['GREETING_SERVICE_URL']}{answer.headers['Location']}"

    async def is_written(self, url: str) -> bool:
        return bool((await self.http.get(url)).json()["status"] == "written")


@pytest_asyncio.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    directory = tmp_path_factory.mktemp("own")
    made = await order_rail("new", "project", "my-shop", cwd=directory, **AUTHOR)
    assert made.status == 0, made.errors
    assert "in one commit" in made.output
    project = Project(directory / "my-shop")
    project.tool("ruff", "check")
    project.tool("ruff", "format", "--check")
    assert not project.run("git", "status", "--porcelain")
    return project


@pytest_asyncio.fixture(scope="module")
async def extended(project: Project) -> Project:
    """With an event more of its service, and a service more, which takes another one."""
    await project.order_rail("new", "event", "greeting.forgotten.v1", "--by", "greeting")
    project.run("git", "commit", "--quiet", "--all", "--message", "An event more")
    options = ("--on", "greeting.written.v1", "--publishes", "loyalty.earned.v1")
    await project.order_rail("new", "service", "loyalty", *options)
    registry = project.root.parent / "registry/order_rail-1.0.dist-info/entry_points.txt"
    registry.write_text(f"{registry.read_text()}loyalty_service = loyalty_service.contract:CONTRACT\n")
    project.run(sys.executable, "-m", "docs.generate")
    return project


@pytest_asyncio.fixture(scope="module")
async def running(broker: Broker, extended: Project) -> AsyncIterator[Running]:
    where = {"RABBITMQ_URL": broker.amqp_url("my-shop"), "RABBITMQ_MANAGEMENT_URL": broker.management_url}
    names = ("GREETING_SERVICE_PORT", "LOYALTY_SERVICE_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    with brought_up(extended.root.parent / "run", extended.root, **extended.environment, **ports, **where) as up:
        await up.is_up()
        yield Running(up, extended)


def test_nothing_of_the_shop_is_left(project: Project) -> None:
    listed = project.run("git", "ls-files").split()
    texts = {file: (project.root / file).read_text() for file in listed if file not in MAY_NAME_IT}
    left = [f"{file}: {line}" for file, text in texts.items() for line in text.splitlines() if SHOP.search(line)]
    assert not left
    assert not [file for file in listed if SHOP.search(file)]


def test_its_links_lead_somewhere(project: Project) -> None:
    pages = [project.root / file for file in project.run("git", "ls-files", "*.md").split()]
    linked = [(page, link) for page in pages for link in re.findall(r"\]\(([^)]+)\)", page.read_text())]
    assert not [(page.name, link) for page, link in linked if link[0] == "#" or not (page.parent / link).exists()]


def test_it_asks_for_no_package_that_it_does_not_need(project: Project) -> None:
    groups = tomllib.loads((project.root / "pyproject.toml").read_text())["dependency-groups"]
    tests = ("pytest", "pytest-asyncio", "pytest-timeout")
    assert groups["dev"][1:] == ["import-linter", "mypy", *tests, "ruff", "types-psutil", "uv"]
    pins = (project.root / "requirements-dev.txt").read_text()
    assert {"fastapi", "pytest", "colorama"} <= (found := set(re.findall(r"(?m)^([\w.-]+)==", pins)))
    assert not {"stripe", "redis", "aiosmtplib", "apprise", "playwright", "schemathesis"} & found


async def test_it_keeps_to_all_rules_also_with_one_more_service(extended: Project) -> None:
    if (cache := ROOT / ".mypy_cache").is_dir():
        shutil.copytree(cache, extended.root / ".mypy_cache")
    extended.tool("ruff", "check")
    extended.tool("ruff", "format", "--check")
    extended.tool("lint-imports", "--no-cache")
    extended.tool("mypy")


def test_its_own_tests_pass(broker: Broker, extended: Project) -> None:
    """Those of the whole system, too, and those of the service that was added."""
    where = {"RABBITMQ_URL": broker.url, "RABBITMQ_MANAGEMENT_URL": broker.management_url}
    outcome = extended.tool("pytest", "-q", "-p", "no:cacheprovider", **where)
    assert re.search(r"\n\d\d passed", outcome), outcome


async def test_a_request_goes_all_the_way_and_through_the_service_that_was_added(running: Running) -> None:
    url = await running.request(name="Ada")
    await eventually(lambda: running.is_written(url), 30, "the greeting to be written")
    headers = {"Authorization": f"Bearer {running.addresses['OPERATOR_TOKEN']}"}

    async def entered() -> bool:
        answer = await running.http.get(f"{running.addresses['LOYALTY_SERVICE_URL']}/audit", headers=headers)
        return any(url.endswith(json.loads(line)["greeting_id"]) for line in answer.text.splitlines())

    await eventually(entered, 30, "the entry of the other service")


async def test_what_can_not_be_handled_is_mended_and_sent_back(running: Running) -> None:
    """As its README tells it."""
    url = await running.request(name="Worf", language="tlh")

    async def listed() -> bool:
        return "unknown-language" in await running.command("dead-letters", "list")

    await eventually(listed, 30, "the dead letter")
    rules = running.project.root / "greeting_service/greetings.py"
    rules.write_text(rules.read_text().replace("WORDS = {", 'WORDS = {"tlh": "nuqneH", '))
    before = running.addresses["GREETING_SERVICE_PID"]
    os.kill(int(before), signal.SIGKILL)
    await eventually(lambda: running.addresses["GREETING_SERVICE_PID"] != before, 30, "another process")

    async def sent_back() -> bool:
        ended = await order_rail(
            *("dead-letters", "redrive", "--all", "--environment-file", str(running._file)),
            cwd=running.project.root,
            **running.project.environment,
        )
        return ended.status == 0

    await eventually(sent_back, 30, "the service to take messages again")
    await eventually(lambda: running.is_written(url), 30, "the greeting to be written")
    assert (await running.http.get(url)).json()["text"] == "nuqneH, Worf!"


async def test_its_operations_work(running: Running) -> None:
    shown = await running.project.order_rail("topology", "show", **running.broker)
    assert "greeting_service.write" in shown
    assert "greetings from before" in (await running.command("prune")).lower()


async def test_its_control_room_shows_its_services_alone(running: Running) -> None:
    page = (await running.http.get(running.addresses["CONTROL_ROOM_URL"])).text
    for shown in ("Greeting service", "Loyalty service", "Greetings to be written", "Dead letters", "Process control"):
        assert shown in page
    assert not re.search("Shop|Audit|Scenarios|Analytics", page)


long = pytest.mark.skipif("PROJECT" not in os.environ, reason="takes minutes: set PROJECT=1")


@long
@pytest.mark.timeout(900)
def test_on_a_fresh_machine_its_own_makefile_does_everything(project: Project) -> None:
    clone = project.root.parent / "clone"
    project.run("git", "clone", "--quiet", project.root, clone)
    ours = ("PYTHONPATH", "RABBITMQ_URL", "RABBITMQ_MANAGEMENT_URL")
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    made = subprocess.run(["make", "check"], cwd=clone, env=variables, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@long
@pytest.mark.timeout(900)
async def test_its_containers_come_up_and_a_request_goes_all_the_way(extended: Project) -> None:
    names = ("GREETING_SERVICE", "LOYALTY_SERVICE", "CONTROL_ROOM", "FRONT_DOOR", "RABBITMQ", "RABBITMQ_MANAGEMENT")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    variables = {f"{name}_PORT": str(port) for name, port in ports.items()}
    url = f"http://127.0.0.1:{ports['GREETING_SERVICE']}/greetings"
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        try:
            extended.run("docker", "compose", "up", "--build", "--wait", "--wait-timeout", "600", **variables)
            path = (await http.post(url, json={"name": "Ada"})).raise_for_status().headers["Location"]

            async def written() -> bool:
                return bool((await http.get(f"{url}{path.removeprefix('/greetings')}")).json()["text"] == "Hello, Ada!")

            await eventually(written, 30, "the greeting to be written")
            page = await http.get(f"http://127.0.0.1:{ports['CONTROL_ROOM']}/")
            assert "Loyalty service" in page.text
        finally:
            extended.run("docker", "compose", "down", "--volumes", "--rmi", "local", **variables)

"""Who is measured: Order Rail, its peers, and the ceilings. Each is the programs that it consists of, as data."""

import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
PEERS_FILE = "requirements-peers.txt"
WEB_PROCESSES = 2
"""Of each peer: faster than one on two cores. Order Rail has one, and so have the ceilings."""


@dataclass(frozen=True)
class Program:
    """One program of a contender.

    It is ready once it answers `ready_path` with a status below 500 (where it has one), and once each of the queues
    `consumes` has a consumer.
    """

    name: str
    command: tuple[str, ...]
    ready_path: str = ""
    consumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """A question to the SQLite database of one program."""

    program: str
    sql: str


@dataclass(frozen=True)
class Contender:
    """`web` takes the orders, `workers` do the rest.

    `finished` counts the orders after an order id whose customer has been notified, and, where the contender keeps a
    status, whose status says so. `notified` gives each order id with the time at which its customer was notified.
    """

    name: str
    title: str
    web: Program
    workers: tuple[Program, ...] = ()
    module: str = "order_service"
    """What must be installed."""
    directory: Path = REPOSITORY
    """The checkout that its programs are from."""
    first_queue: str = "payments"
    """Where an order waits until it is paid."""
    finished: Query = Query("notifications", "SELECT count(*) FROM notifications WHERE order_id > ?")
    notified: Query = Query("notifications", "SELECT order_id, at FROM notifications")

    @property
    def is_order_rail(self) -> bool:
        """This version or another one."""
        return self.name in (ORDER_RAIL.name, BEFORE)

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


def _service(name: str) -> Program:
    return Program(name, (PYTHON, "-m", name), "/readyz")


def _web(module: str, processes: int) -> Program:
    options = ("--no-access-log", "--log-level", "warning", "--workers", str(processes))  # its port: UVICORN_PORT
    return Program("web", (PYTHON, "-m", "uvicorn", f"benchmarks.{module}:app", *options), "/")


def _worker(name: str, *command: str) -> Program:
    return Program(name, (PYTHON, "-m", *command), consumes=(name,))


ORDER_RAIL = Contender(
    "order_rail",
    "Order Rail",
    web=_service("order_service"),
    workers=(_service("payment_service"), _service("notification_service")),
    first_queue="payment_service.charge",
    finished=Query("order_service", "SELECT count(*) FROM orders WHERE order_id > ? AND status = 'confirmed'"),
    notified=Query("notification_service", "SELECT order_id, at FROM notifications WHERE channel = 'email'"),
)


CONTROL_ROOM = Program("control_room", (PYTHON, "-c", "from control_room.cli import app; app()", "control-room"), "/")
"""Watches a system whose addresses are in its environment."""


def _celery(queue: str) -> Program:
    return _worker(
        queue, "celery", "-A", "benchmarks.peers.celery.tasks", "worker", "-Q", queue, "-n", f"{queue}@%h",
        "--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING",
    )  # fmt: skip


def _dramatiq(queue: str) -> Program:
    return _worker(
        queue, "dramatiq", "benchmarks.peers.dramatiq.tasks", "--queues", queue, "--processes", "1", "--threads", "8"
    )


def _faststream(queue: str) -> Program:
    return _worker(queue, "faststream", "run", f"benchmarks.peers.faststream.{queue}:app", "--log-level", "warning")


def _taskiq(queue: str) -> Program:
    return _worker(
        queue, "taskiq", "worker", f"benchmarks.peers.taskiq.tasks:{queue}", "--workers", "1", "--log-level", "WARNING"
    )


PEERS = (
    Contender(
        "celery", "Celery", module="celery",
        web=_web("peers.celery.web", WEB_PROCESSES), workers=(_celery("payments"), _celery("notifications")),
    ),
    Contender(
        "dramatiq", "Dramatiq", module="dramatiq",
        web=_web("peers.dramatiq.web", WEB_PROCESSES), workers=(_dramatiq("payments"), _dramatiq("notifications")),
    ),
    Contender(
        "faststream", "FastStream", module="faststream",
        web=_web("peers.faststream.web", WEB_PROCESSES),
        workers=(_faststream("payments"), _faststream("notifications")),
    ),
    Contender(
        "taskiq", "TaskIQ", module="taskiq_aio_pika",
        web=_web("peers.taskiq.web", WEB_PROCESSES), workers=(_taskiq("payments"), _taskiq("notifications")),
    ),
)  # fmt: skip

CEILINGS = (
    Contender("fastapi_validates", "FastAPI that only validates", _web("ceilings.fastapi_route", 1)),
    Contender("starlette_validates", "Starlette that only validates", _web("ceilings.starlette_route", 1)),
)

BEFORE = "before"


def order_rail_before(directory: Path) -> Contender:
    """Another version of Order Rail, from its checkout."""
    return replace(ORDER_RAIL, name=BEFORE, title="Order Rail before", directory=directory)

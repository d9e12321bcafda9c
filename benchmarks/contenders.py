"""Who is measured: Order Rail, its peers, and the ceilings. Each is the programs that it consists of, as data."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
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
    `consumes` has a consumer and each that it `declares` exists.
    """

    name: str
    command: tuple[str, ...]
    ready_path: str = ""
    consumes: tuple[str, ...] = ()
    declares: tuple[str, ...] = ()
    database: str = ""
    """The program whose database it uses; its own where this is empty."""


@dataclass(frozen=True)
class Query:
    """A question to the SQLite database of one program."""

    program: str
    sql: str


@dataclass(frozen=True)
class Contender:
    """`web` takes the orders, `relay` (where there is one) publishes their events, `workers` do the rest.

    `finished` counts the orders after an order id whose customer has been notified, and, where the contender keeps a
    status, whose status says so. `notified` gives each order id with the time at which its customer was notified.
    """

    name: str
    title: str
    web: Program
    workers: tuple[Program, ...] = ()
    relay: Program | None = None
    module: str = "order_service"
    """What must be installed."""
    directory: Path = REPOSITORY
    """The checkout that its programs are from."""
    deliveries: int = 2
    """How many messages are handled for an order until all is done."""
    first_queue: str = "payments"
    """Where an order waits until it is paid."""
    finished: Query = Query("notifications", "SELECT count(*) FROM notifications WHERE order_id > ?")
    notified: Query = Query("notifications", "SELECT order_id, at FROM notifications")
    quorum_queues: tuple[str, ...] = ()
    """Queues that are made for it, as it declares none."""
    quorum_by_default: bool = False
    """Whether a queue that it declares with no type is a quorum queue."""
    virtual_host: str = ""
    """The only one that it can use; a new one for each run where this is empty."""
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further environment variables, of its programs and of its topology."""

    @property
    def intake(self) -> tuple[Program, ...]:
        """What must run for an order to come to the first queue."""
        return (self.web, self.relay) if self.relay else (self.web,)

    @property
    def programs(self) -> tuple[Program, ...]:
        return (*self.intake, *self.workers)

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


def _worker(name: str, *command: str, consumes: tuple[str, ...] = (), database: str = "") -> Program:
    return Program(name, (PYTHON, "-m", *command), consumes=consumes or (name,), database=database)


PAYMENTS = _service("payment_service")

ORDER_RAIL = Contender(
    "order_rail",
    "Order Rail",
    web=_service("order_service"),
    workers=(PAYMENTS, _service("notification_service")),
    deliveries=8,
    first_queue="payment_service.charge",
    finished=Query("order_service", "SELECT count(*) FROM orders WHERE order_id > ? AND status = 'confirmed'"),
    notified=Query("notification_service", "SELECT order_id, at FROM notifications WHERE channel = 'email'"),
)


CONTROL_ROOM = Program("control_room", (PYTHON, "-c", "from control_room.cli import app; app()", "control-room"), "/")
"""Watches a system whose addresses are in its environment."""


PRUNE = Program("prune", (PYTHON, "-c", "from control_room.cli import app; app()", "prune", "--discards", "none"))
"""Deletes old orders from a system whose addresses are in its environment, and ends."""


def _celery(queue: str) -> Program:
    return _worker(
        queue, "celery", "-A", "benchmarks.peers.celery.tasks", "worker", "-Q", queue, "-n", f"{queue}@%h",
        "--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING",
    )  # fmt: skip


def _dramatiq(name: str, queues: tuple[str, ...] = (), database: str = "", tasks: str = "tasks") -> Program:
    return _worker(
        name, "dramatiq", f"benchmarks.peers.dramatiq.{tasks}", "--queues", *(queues or (name,)),
        "--processes", "1", "--threads", "8", consumes=queues, database=database,
    )  # fmt: skip


def _faststream(name: str, queues: tuple[str, ...] = (), database: str = "", package: str = "") -> Program:
    app = f"benchmarks.peers.faststream.{package}{name}:app"
    return _worker(name, "faststream", "run", app, consumes=queues, database=database)


def _repid(queue: str) -> Program:
    return _worker(queue, "benchmarks.peers.repid.worker", queue)


def _taskiq(queue: str) -> Program:
    return _worker(
        queue, "taskiq", "worker", f"benchmarks.peers.taskiq.tasks:{queue}", "--workers", "1", "--log-level", "WARNING"
    )


CELERY = Contender(
    "celery", "Celery", module="celery",
    web=_web("peers.celery.web", WEB_PROCESSES), workers=(_celery("payments"), _celery("notifications")),
)  # fmt: skip
DRAMATIQ = Contender(
    "dramatiq", "Dramatiq", module="dramatiq",
    web=_web("peers.dramatiq.web", WEB_PROCESSES), workers=(_dramatiq("payments"), _dramatiq("notifications")),
)  # fmt: skip
FASTSTREAM = Contender(
    "faststream", "FastStream", module="faststream",
    web=_web("peers.faststream.web", WEB_PROCESSES), workers=(_faststream("payments"), _faststream("notifications")),
)  # fmt: skip
REPID = Contender(
    "repid", "Repid", module="repid", virtual_host="/", quorum_queues=("payments", "notifications"),
    web=_web("peers.repid.web", WEB_PROCESSES), workers=(_repid("payments"), _repid("notifications")),
)  # fmt: skip
TASKIQ = Contender(
    "taskiq", "TaskIQ", module="taskiq_aio_pika",
    web=_web("peers.taskiq.web", WEB_PROCESSES), workers=(_taskiq("payments"), _taskiq("notifications")),
)  # fmt: skip


def _all_steps(library: Contender, worker: Callable[[str, tuple[str, ...], str], Program]) -> Contender:
    """The variant that does for an order all that Order Rail does. `worker`: from name, queues and database."""
    relay = f"benchmarks.peers.{library.name}.all_steps.relay"
    return replace(
        library,
        name=f"{library.name}_all_steps",
        title=f"{library.title}, all steps",
        web=_web("peers.all_steps_web", WEB_PROCESSES),
        relay=Program("relay", (PYTHON, "-m", relay), declares=("charge",), database="web"),
        workers=(
            worker("payments", ("charge",), ""),
            worker("notifications", ("email", "sms", "push", "restaurant"), ""),
            worker("tracking", ("track",), "web"),
        ),
        deliveries=ORDER_RAIL.deliveries,
        first_queue="charge",
        finished=Query("web", "SELECT count(*) FROM orders WHERE order_id > ? AND status = 'confirmed'"),
        notified=Query("notifications", "SELECT order_id, at FROM notices WHERE channel = 'email'"),
        quorum_by_default=True,
    )


PEERS = (
    CELERY,
    DRAMATIQ,
    FASTSTREAM,
    REPID,
    TASKIQ,
    _all_steps(DRAMATIQ, partial(_dramatiq, tasks="all_steps.tasks")),
    _all_steps(FASTSTREAM, partial(_faststream, package="all_steps.")),
)

CEILINGS = (
    Contender("fastapi_validates", "FastAPI that only validates", _web("ceilings.fastapi_route", 1)),
    Contender("starlette_validates", "Starlette that only validates", _web("ceilings.starlette_route", 1)),
)

BEFORE = "before"


def order_rail_before(directory: Path) -> Contender:
    """Another version of Order Rail, from its checkout."""
    return replace(ORDER_RAIL, name=BEFORE, title="Order Rail before", directory=directory)

"""The rail: services, exchanges and queues, from left to right as an order passes them, with what is in them now."""

import math

from nicegui import ui

from control_room.dashboard.page.parts import card, fact, named, number, swap, text, title
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import QueueView, ServiceView, Snapshot
from control_room.operations.roles import NOTIFICATIONS, ORDERS, PAYMENTS
from shared import contract
from shared.contract import QueueContract, ServiceContract

FULL_BAR = 100_000
"""The bar of a queue that holds so many messages is full. It grows with their logarithm."""
HELD = {ProcessState.DOWN: "stopped here", ProcessState.PAUSED: "paused here", ProcessState.SLOW: "slowed here"}
HINT = (
    "An order travels from left to right: a service puts a message into an exchange, that puts a copy into each queue "
    "that wants one, and the next service takes it out."
)


class Rail:
    """All of them."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._services: dict[str, _Service] = {}
        self._exchanges: dict[str, ui.element] = {}
        self._queues: dict[str, _Queue] = {}
        with card("The rail", HINT, "rail"), ui.element("div").classes("stops"):
            for service in contract.services():
                self._draw_stop(service)
            text(f"… and the {ORDERS.title.lower()} keeps each order's story.", "hint end", tag="p")

    def _draw_stop(self, service: ServiceContract) -> None:
        """A service with its exchange, then the queues that the exchange fills."""
        with ui.element("div"):
            self._services[service.name] = _Service(service.name)
            if service.exchange:
                self._exchanges[service.exchange] = _exchange(service.exchange)
        queues = {name: _last_exchange(queue) for name, queue in contract.queues().items()}
        with ui.element("div").classes("queues"):
            self._queues |= {name: _Queue(name) for name, exchange in queues.items() if exchange == service.exchange}

    def show(self, snapshot: Snapshot) -> None:
        for name, service in snapshot.services.items():
            state = self._room.control.state(name) if self._room.control else ProcessState.RUNNING
            self._services[name].show(service, state, _rate(name, snapshot))
        for name, exchange in self._exchanges.items():
            swap(exchange, "fine" if name in snapshot.exchanges else "broken")
        for name, queue in snapshot.queues.items():
            self._queues[name].show(queue, is_known=not snapshot.broker_problem)


def _last_exchange(queue: QueueContract) -> str:
    """The exchange that fills the queue; of several, the one of the service that an order reaches last."""
    return max((pattern.exchange for pattern in contract.patterns(queue)), key=contract.exchanges().index)


def _rate(service: str, snapshot: Snapshot) -> str:
    match service:
        case ORDERS.name:
            return f"{number(snapshot.accepted)} orders accepted/s"
        case PAYMENTS.name:
            return f"{number(snapshot.paid)} charged/s"
        case NOTIFICATIONS.name:
            return f"{number(snapshot.notified)} customers told/s"
    queues = (snapshot.queues[name] for name in contract.service(service).queue_names)
    return f"{number(sum(queue.per_second for queue in queues))} handled/s"


class _Service:
    def __init__(self, name: str) -> None:
        with named(ui.element("div").classes("service"), title(name), "group") as self._box:
            text(title(name), "name")
            _code(name)
            self._rate = text("", "speed")
            self._state = text("", "state")
            self._outbox = text("", "outbox")

    def show(self, service: ServiceView, process: ProcessState, rate: str) -> None:
        self._rate.set_text(rate)
        self._state.set_text(_state(service, process))
        self._outbox.set_text(f"{service.outbox:,} in its outbox" if service.outbox else "")
        is_slow = service.is_ready and process is ProcessState.SLOW
        swap(self._box, "busy" if is_slow else "fine" if service.is_ready else "broken")


def _state(service: ServiceView, process: ProcessState) -> str:
    words = "; ".join(service.problems) if service.problems else "ready"
    if service.is_ready and service.replicas > 1:
        words = f"ready, {service.replicas} of them"
    return f"{HELD[process]}: {words}" if process in HELD else words


def _exchange(name: str) -> ui.element:
    with named(ui.element("div").classes("exchange"), f"Exchange {name}", "group") as box:
        text("exchange", "code", tag="span")
        text(name, "name", tag="span")
    return box


def _code(name: str) -> None:
    """A technical name; a line may break between its words."""
    ui.html(name.replace("_", "_<wbr>").replace(".", ".<wbr>"), sanitize=False).classes("code")


class _Queue:
    def __init__(self, name: str) -> None:
        with named(ui.element("div").classes("queue"), f"Queue: {title(name)}", "group") as self._box:
            text(title(name), "name")
            _code(name)
            with ui.element("div").classes("depth"):
                self._waiting = text("", "figure")
                text("waiting", "unit")
                self._rate = text("", "speed")
            with ui.element("div").classes("bar").props("aria-hidden=true"):
                self._bar = ui.element("div")
            with ui.element("dl"):
                self._facts = [fact(each) for each in ("in work", "consumers", "retrying", "set aside")]
            self._problem = text("", "state")

    def show(self, queue: QueueView, *, is_known: bool) -> None:
        values = (queue.in_work, queue.consumers, queue.retrying, queue.dead)
        self._waiting.set_text(f"{queue.waiting:,}" if is_known else "?")
        self._rate.set_text(f"{number(queue.per_second)} taken/s")
        for each, value in zip(self._facts, values, strict=True):
            each.set_text(f"{value:,}" if is_known else "?")
        self._bar.style(f"width: {_fullness_percent(queue.waiting):.0f}%")
        problem = queue.problem if is_known else "not known: RabbitMQ does not answer"
        self._problem.set_text(problem)
        swap(self._box, "broken" if problem else "busy" if queue.waiting > queue.in_work + 10 else "fine")
        swap(self._facts[-1], "some" if queue.dead else "none", ("some", "none"))


def _fullness_percent(waiting: int) -> float:
    return min(100.0, 100 * math.log1p(waiting) / math.log1p(FULL_BAR))

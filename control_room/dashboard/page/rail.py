"""The rail: services, exchanges and queues, from left to right as an order passes them, with what is in them now."""

import math

from nicegui import ui

from control_room.dashboard.page.parts import card, fact, named, number, swap, text, title
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ProcessControl, ProcessState
from control_room.dashboard.snapshots.snapshot import ServiceView, Snapshot
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
    """A box for each of them."""

    def __init__(self, room: Room) -> None:
        self._boxes: list[_Service | _Exchange | _Queue] = []
        with card("The rail", HINT, "rail"), ui.element("div").classes("stops"):
            for service in contract.services():
                self._draw_stop(service, room.control)
            text(f"… and the {ORDERS.title.lower()} keeps each order's history.", "hint end", tag="p")

    def show(self, snapshot: Snapshot) -> None:
        for box in self._boxes:
            box.show(snapshot)

    def _draw_stop(self, service: ServiceContract, control: ProcessControl | None) -> None:
        """A service with its exchange, then the queues that the exchange fills."""
        with ui.element("div"):
            self._boxes.append(_Service(service, control))
            if service.exchange:
                self._boxes.append(_Exchange(service.exchange))
        with ui.element("div").classes("queues"):
            queues = contract.queues().items()
            self._boxes += [_Queue(name) for name, queue in queues if _last_exchange(queue) == service.exchange]


def _last_exchange(queue: QueueContract) -> str:
    """The exchange that fills the queue; of several, the one of the service that an order reaches last."""
    return max((pattern.exchange for pattern in contract.patterns(queue)), key=contract.exchanges().index)


class _Service:
    def __init__(self, service: ServiceContract, control: ProcessControl | None) -> None:
        self._service, self._control = service, control
        with named(ui.element("div").classes("service"), service.title, "group") as self._box:
            text(service.title, "name")
            _code(service.name)
            self._rate = text("", "speed")
            self._state = text("", "state")
            self._outbox = text("", "outbox")

    def show(self, snapshot: Snapshot) -> None:
        view = snapshot.services.get(self._service.name)
        if view is None:  # nothing has been read yet
            return
        process = self._control.state(view.name) if self._control else ProcessState.RUNNING
        self._rate.set_text(_rate(self._service, snapshot))
        self._state.set_text(_state(view, process))
        self._outbox.set_text(f"{view.outbox:,} in its outbox" if view.outbox else "")
        is_slow = view.is_ready and process is ProcessState.SLOW
        swap(self._box, "busy" if is_slow else "fine" if view.is_ready else "broken")


def _rate(service: ServiceContract, snapshot: Snapshot) -> str:
    match service.name:
        case ORDERS.name:
            return f"{number(snapshot.accepted)} orders accepted/s"
        case PAYMENTS.name:
            return f"{number(snapshot.paid)} charged/s"
        case NOTIFICATIONS.name:
            return f"{number(snapshot.notified)} customers notified/s"
    return f"{number(sum(snapshot.queues[name].per_second for name in service.queue_names))} handled/s"


def _state(view: ServiceView, process: ProcessState) -> str:
    words = "; ".join(view.problems) if view.problems else "ready"
    if view.is_ready and view.replicas > 1:
        words = f"ready, {view.replicas} of them"
    return f"{HELD[process]}: {words}" if process in HELD else words


class _Exchange:
    def __init__(self, name: str) -> None:
        self._name = name
        with named(ui.element("div").classes("exchange"), f"Exchange {name}", "group") as self._box:
            text("exchange", "code", tag="span")
            text(name, "name", tag="span")

    def show(self, snapshot: Snapshot) -> None:
        swap(self._box, "fine" if self._name in snapshot.exchanges else "broken")


class _Queue:
    def __init__(self, name: str) -> None:
        self._name = name
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

    def show(self, snapshot: Snapshot) -> None:
        queue, is_known = snapshot.queues[self._name], not snapshot.broker_problem
        values = (queue.in_work, queue.consumers, queue.retrying, queue.dead)
        self._waiting.set_text(f"{queue.waiting:,}" if is_known else "?")
        self._rate.set_text(f"{number(queue.per_second)} taken/s")
        for each, value in zip(self._facts, values, strict=True):
            each.set_text(f"{value:,}" if is_known else "?")
        fullness_percent = min(100.0, 100 * math.log1p(queue.waiting) / math.log1p(FULL_BAR))
        self._bar.style(f"width: {fullness_percent:.0f}%")
        problem = queue.problem if is_known else "not known: RabbitMQ does not answer"
        self._problem.set_text(problem)
        swap(self._box, "broken" if problem else "busy" if queue.waiting > queue.in_work + 10 else "fine")
        swap(self._facts[-1], "some" if queue.dead else "none", ("some", "none"))


def _code(name: str) -> None:
    """A technical name; a line may break between its words."""
    ui.html(name.replace("_", "_<wbr>").replace(".", ".<wbr>"), sanitize=False).classes("code")

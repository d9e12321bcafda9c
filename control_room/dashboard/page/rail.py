"""The rail: services, exchanges and queues, from left to right as an order passes them, with what is in them now."""

import math

from nicegui import ui

from control_room.dashboard.page.parts import NAMES, card, fact, named, number, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import QueueView, ServiceView, Snapshot

FULL_BAR = 100_000
"""The bar of a queue that holds so many messages is full. It grows with their logarithm."""
STOPS = (
    ("order_service", "orders", ("payment_service.charge",)),
    ("payment_service", "payments", tuple(f"notification_service.{each}" for each in ("email", "sms", "restaurant"))),
    ("notification_service", "notifications", ("order_service.track",)),
)
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
            for service, exchange, queues in STOPS:
                with ui.element("div"):
                    self._services[service] = _Service(service)
                    self._exchanges[exchange] = _exchange(exchange)
                with ui.element("div").classes("queues"):
                    self._queues |= {queue: _Queue(queue) for queue in queues}
            text("… and the order service keeps each order's story.", "hint end", tag="p")

    def show(self, snapshot: Snapshot) -> None:
        for name, service in snapshot.services.items():
            state = self._room.control.state(name) if self._room.control else ProcessState.RUNNING
            self._services[name].show(service, state, _speed(name, snapshot))
        for name, exchange in self._exchanges.items():
            swap(exchange, "fine" if name in snapshot.exchanges else "broken")
        for name, queue in snapshot.queues.items():
            self._queues[name].show(queue, is_known=not snapshot.broker_problem)


def _speed(service: str, snapshot: Snapshot) -> str:
    match service:
        case "order_service":
            return f"{number(snapshot.accepted)} orders accepted/s"
        case "payment_service":
            return f"{number(snapshot.paid)} charged/s"
        case _:
            return f"{number(snapshot.notified)} customers told/s"


class _Service:
    def __init__(self, name: str) -> None:
        with named(ui.element("div").classes("service"), NAMES[name], "group") as self._box:
            text(NAMES[name], "name")
            _code(name)
            self._speed = text("", "speed")
            self._state = text("", "state")
            self._outbox = text("", "outbox")

    def show(self, service: ServiceView, process: ProcessState, speed: str) -> None:
        self._speed.set_text(speed)
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
        with named(ui.element("div").classes("queue"), f"Queue: {NAMES[name]}", "group") as self._box:
            text(NAMES[name], "name")
            _code(name)
            with ui.element("div").classes("depth"):
                self._waiting = text("", "figure")
                text("waiting", "unit")
                self._speed = text("", "speed")
            with ui.element("div").classes("bar").props("aria-hidden=true"):
                self._bar = ui.element("div")
            with ui.element("dl"):
                self._facts = [fact(each) for each in ("in work", "consumers", "retrying", "set aside")]
            self._problem = text("", "state")

    def show(self, queue: QueueView, *, is_known: bool) -> None:
        values = (queue.in_work, queue.consumers, queue.retrying, queue.dead)
        self._waiting.set_text(f"{queue.waiting:,}" if is_known else "?")
        self._speed.set_text(f"{number(queue.per_second)} taken/s")
        for each, value in zip(self._facts, values, strict=True):
            each.set_text(f"{value:,}" if is_known else "?")
        self._bar.style(f"width: {_fullness_percent(queue.waiting):.0f}%")
        problem = queue.problem if is_known else "not known: RabbitMQ does not answer"
        self._problem.set_text(problem)
        swap(self._box, "broken" if problem else "busy" if queue.waiting > queue.in_work + 10 else "fine")
        swap(self._facts[-1], "some" if queue.dead else "none", ("some", "none"))


def _fullness_percent(waiting: int) -> float:
    return min(100.0, 100 * math.log1p(waiting) / math.log1p(FULL_BAR))

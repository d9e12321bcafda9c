"""The rail: services, exchanges and queues, from left to right as an order passes them, with what is in them now."""

import math
from collections.abc import Callable
from operator import attrgetter

from nicegui import ui

from control_room.dashboard.page.parts import Page, card, named, number, text, title
from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import QueueView, Snapshot
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
FACTS = {"in work": "in_work", "consumers": "consumers", "retrying": "retrying", "set aside": "dead"}
"""What a queue's box says, and the attribute of the view that holds it."""


def show(page: Page) -> None:
    """A box for each of them."""
    with card("The rail", HINT, "rail"), ui.element("div").classes("stops"):
        for service in contract.services():
            with ui.element("div"):
                _show_service(page, service)
                if service.exchange:
                    _show_exchange(page, service.exchange)
            with ui.element("div").classes("queues"):
                for name, queue in contract.queues().items():
                    if _last_exchange(queue) == service.exchange:
                        _show_queue(page, name)
        text(f"… and the {ORDERS.title.lower()} keeps each order's history.", "hint end", tag="p")


def _last_exchange(queue: QueueContract) -> str:
    """The exchange that fills the queue; of several, the one of the service that an order reaches last."""
    return max((pattern.exchange for pattern in contract.patterns(queue)), key=contract.exchanges().index)


def _show_service(page: Page, service: ServiceContract) -> None:
    def process() -> ProcessState:
        return page.room.control.state(service.name) if page.room.control else ProcessState.RUNNING

    def state(snapshot: Snapshot) -> str:
        view = snapshot.services[service.name]
        words = f"ready, {view.replicas} of them" if view.replicas > 1 else "ready"
        words = f"degraded: {'; '.join(view.degraded)}" if view.degraded else words
        words = words if view.is_ready else "; ".join(view.problems)
        return f"{HELD[process()]}: {words}" if process() in HELD else words

    def colour(snapshot: Snapshot) -> str:
        view = snapshot.services[service.name]
        if not view.is_ready:
            return "broken"
        return "busy" if view.degraded or process() is ProcessState.SLOW else "fine"

    def outbox(snapshot: Snapshot) -> str:
        waiting = snapshot.services[service.name].outbox
        return f"{waiting:,} in its outbox" if waiting else ""

    with named(ui.element("div").classes("service"), service.title, "group") as box:
        text(service.title, "name")
        _show_code(service.name)
        page.text(lambda snapshot: _rate(service, snapshot), "speed")
        page.text(state, "state")
        page.text(outbox, "outbox")
    page.colour(box, colour)


def _rate(service: ServiceContract, snapshot: Snapshot) -> str:
    match service.name:
        case ORDERS.name:
            return f"{number(snapshot.accepted)} orders accepted/s"
        case PAYMENTS.name:
            return f"{number(snapshot.paid)} charged/s"
        case NOTIFICATIONS.name:
            return f"{number(snapshot.notified)} customers notified/s"
    return f"{number(sum(snapshot.queues[name].per_second for name in service.queue_names))} handled/s"


def _show_exchange(page: Page, name: str) -> None:
    with named(ui.element("div").classes("exchange"), f"Exchange {name}", "group") as box:
        text("exchange", "code", tag="span")
        text(name, "name", tag="span")
    page.colour(box, lambda snapshot: "fine" if name in snapshot.exchanges else "broken")


def _show_queue(page: Page, name: str) -> None:
    def view(snapshot: Snapshot) -> QueueView:
        return snapshot.queues[name]

    def count(attribute: str) -> Callable[[Snapshot], str]:
        return lambda snapshot: "?" if snapshot.broker_problem else f"{attrgetter(attribute)(view(snapshot)):,}"

    def problem(snapshot: Snapshot) -> str:
        return "not known: RabbitMQ does not answer" if snapshot.broker_problem else view(snapshot).problem

    def colour(snapshot: Snapshot) -> str:
        if problem(snapshot):
            return "broken"
        return "busy" if view(snapshot).waiting > view(snapshot).in_work + 10 else "fine"

    with named(ui.element("div").classes("queue"), f"Queue: {title(name)}", "group") as box:
        text(title(name), "name")
        _show_code(name)
        with ui.element("div").classes("depth"):
            page.text(count("waiting"), "figure")
            text("waiting", "unit")
            page.text(lambda snapshot: f"{number(view(snapshot).per_second)} taken/s", "speed")
        with ui.element("div").classes("bar").props("aria-hidden=true"):
            bar = ui.element("div")
        with ui.element("dl"):
            *_, dead = [page.fact(label, count(attribute)) for label, attribute in FACTS.items()]
        page.text(problem, "state")
    page.updates.append(lambda snapshot: bar.style(f"width: {_fullness_percent(view(snapshot).waiting):.0f}%"))
    page.colour(dead, lambda snapshot: "broken" if view(snapshot).dead else "")
    page.colour(box, colour)


def _fullness_percent(waiting: int) -> float:
    return min(100.0, 100 * math.log1p(waiting) / math.log1p(FULL_BAR))


def _show_code(name: str) -> None:
    """A technical name; a line may break between its words."""
    ui.html(name.replace("_", "_<wbr>").replace(".", ".<wbr>"), sanitize=False).classes("code")

"""The rail: services, exchanges and queues, from left to right as work passes them, with what is in them now."""

import math
from collections.abc import Callable
from operator import attrgetter

from nicegui import ui

from control_room.dashboard.page.parts import Page, card, named, number, text
from control_room.dashboard.page.process_control import restarted
from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import QueueView, Snapshot, failing_system
from control_room.dashboard.words import phrase, plainly, title
from shared import contract
from shared.contract import QueueContract, ServiceContract

FULL_BAR = 100_000
"""The bar of a queue that holds so many messages is full. It grows with their logarithm."""
HELD = {ProcessState.DOWN: "stopped here", ProcessState.PAUSED: "paused here", ProcessState.SLOW: "slowed here"}
HINT = (
    "From left to right: a service publishes to its exchange, which fills the queues; the next service takes from them."
)
FACTS = {"in work": "in_work", "consumers": "consumers", "retrying": "retrying", "dead": "dead"}
"""What a queue's box says, and the attribute of the view that holds it."""


def show(page: Page) -> None:
    """A box for each of them."""
    with card("The rail", HINT, "rail"), ui.element("div").classes("stops") as stops:
        stops.style(f"--columns: {' '.join(map(_width, contract.services()))}")
        for service in contract.services():
            with ui.element("div").classes("stop"):
                _show_service(page, service)
                if service.exchange:
                    _show_exchange(page, service.exchange)
                with ui.element("div").classes("queues"):
                    for name in _filled_by(service):
                        _show_queue(page, name)


def _filled_by(service: ServiceContract) -> list[str]:
    """The queues that are shown below the service's exchange."""
    return [name for name, queue in contract.queues().items() if _last_exchange(queue) == service.exchange]


def _width(service: ServiceContract) -> str:
    """Of the service's column: several queues stand side by side."""
    return "minmax(0, 1.7fr)" if len(_filled_by(service)) > 1 else "minmax(0, 1fr)"


def _last_exchange(queue: QueueContract) -> str:
    """The exchange that fills the queue; of several, the one of the service that comes last."""
    return max((pattern.exchange for pattern in contract.patterns(queue)), key=contract.exchanges().index)


def _show_service(page: Page, service: ServiceContract) -> None:
    def process() -> ProcessState:
        return page.room.control.state(service.name) if page.room.control else ProcessState.RUNNING

    def state(snapshot: Snapshot) -> str:
        words = _says(service, snapshot)
        return f"{HELD[process()]}: {words}" if process() in HELD else words

    def colour(snapshot: Snapshot) -> str:
        view = snapshot.services[service.name]
        if not view.is_ready or _untaken(service, snapshot):
            return "broken"
        return "busy" if view.degraded or process() is ProcessState.SLOW else "fine"

    def outbox(snapshot: Snapshot) -> str:
        waiting = snapshot.services[service.name].outbox
        return f"{waiting:,} in its outbox" if waiting else ""

    with named(ui.element("div").classes("service"), service.title, "group") as box:
        text(service.title, "name")
        _show_code(service.name)
        page.text(lambda snapshot: _rate(service, snapshot), "speed")
        page.timed(state, "state")
        page.text(outbox, "outbox")
    page.colour(box, colour)


def _says(service: ServiceContract, snapshot: Snapshot) -> str:
    """The state of a service in a few words."""
    view = snapshot.services[service.name]
    if not view.is_ready:
        return plainly("; ".join(view.problems))
    if queues := _untaken(service, snapshot):
        return f"does not take from {', '.join(map(phrase, queues))} yet"
    if view.degraded:
        return f"waits for {' and '.join(map(failing_system, view.degraded))}"
    ready = f"ready, {view.replicas} of them" if view.replicas > 1 else "ready"
    return ", ".join(filter(None, (ready, restarted(view))))


def _untaken(service: ServiceContract, snapshot: Snapshot) -> list[str]:
    """Its queues that it takes nothing from, even if it is ready: it has just been started."""
    return [] if snapshot.broker_problem else [name for name in service.queue_names if snapshot.queues[name].problem]


def _rate(service: ServiceContract, snapshot: Snapshot) -> str:
    if service.stages:
        return ", ".join(f"{number(snapshot.rates[stage.label])} {stage.does}/s" for stage in service.stages)
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
        return "not known" if snapshot.broker_problem else view(snapshot).problem

    def colour(snapshot: Snapshot) -> str:
        if problem(snapshot):
            return "broken"
        return "busy" if view(snapshot).waiting > view(snapshot).in_work + 10 else "fine"

    with named(ui.element("div").classes("queue"), f"Queue: {title(name)}", "group") as box:
        text(title(name), "name").props["title"] = name
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

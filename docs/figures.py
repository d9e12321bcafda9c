"""The figures of the pages: boxes on a grid of columns and rows, and arrows between them, as SVG.

`python -m docs.generate` writes each to `docs/images/<name>.svg`. Three columns fit beside the navigation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Literal

Kind = Literal["person", "service", "queue", "store"]
COLUMN, ROW, WIDTH, HEIGHT, MARGIN = 248, 92, 148, 50, 14
LINE_HEIGHT = 17
FILLS: Mapping[Kind, str] = {"person": "#ffffff", "service": "#cfe8e4", "queue": "#fde3c0", "store": "#dde3ea"}
INK, PAPER = "#1f2d36", "#faf9f5"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    'font-family="system-ui, sans-serif" font-size="14" fill="{ink}">\n<title>{title}</title>\n'
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 10 5 0 10z" fill="{ink}"/></marker></defs>\n'
    '<rect width="100%" height="100%" fill="{paper}"/>\n'
)


@dataclass(frozen=True)
class Box:
    """`label`: a slash begins a new line."""

    column: float
    row: float
    kind: Kind
    label: str

    @property
    def x(self) -> float:
        return MARGIN + self.column * COLUMN

    @property
    def y(self) -> float:
        return MARGIN + self.row * ROW

    def svg(self) -> Iterator[str]:
        round_ = HEIGHT / 2 if self.kind == "person" else 6
        yield (
            f'<rect x="{self.x:g}" y="{self.y:g}" width="{WIDTH}" height="{HEIGHT}" rx="{round_:g}" '
            f'fill="{FILLS[self.kind]}" stroke="{INK}"/>'
        )
        if self.kind == "queue":  # the messages in it
            for offset in (8, 14, 20):
                x = self.x + WIDTH - offset
                yield f'<path d="M{x:g} {self.y + 8:g}v{HEIGHT - 16}" stroke="{INK}" stroke-opacity="0.5"/>'
        yield from text(self.label, self.x + WIDTH / 2 - (8 if self.kind == "queue" else 0), self.y + HEIGHT / 2)


@dataclass(frozen=True)
class Arrow:
    """From one box to another; dashed for what happens only sometimes."""

    begin: str
    end: str
    label: str = ""
    dashed: bool = False

    def svg(self, boxes: Mapping[str, Box]) -> Iterator[str]:
        begin, end = boxes[self.begin], boxes[self.end]
        across = end.column != begin.column
        way = 1 if (end.column > begin.column if across else end.row > begin.row) else -1
        (x1, y1), (x2, y2) = (_side(box, across, side) for box, side in ((begin, way), (end, -way)))
        dashes = ' stroke-dasharray="5 4"' if self.dashed else ""
        yield f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{INK}" fill="none" marker-end="url(#head)"{dashes}/>'
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        if across:
            yield from text(self.label, x, y - 8 - LINE_HEIGHT / 2 * self.label.count("/"), 'font-size="12"')
        else:
            yield from text(self.label, x + 8, y, 'font-size="12" text-anchor="start"')


def _side(box: Box, across: bool, way: int) -> tuple[float, float]:
    middle_x, middle_y = box.x + WIDTH / 2, box.y + HEIGHT / 2
    return (middle_x + way * WIDTH / 2, middle_y) if across else (middle_x, middle_y + way * HEIGHT / 2)


def text(label: str, x: float, y: float, style: str = "") -> Iterator[str]:
    """The lines of a label, centred around a point."""
    lines = label.split("/") if label else []
    anchor = "" if "text-anchor" in style else ' text-anchor="middle"'
    for number, line in enumerate(lines):
        at = y + LINE_HEIGHT * (number - (len(lines) - 1) / 2) + 5
        yield f'<text x="{x:g}" y="{at:g}"{anchor}{" " if style else ""}{style}>{escape(line)}</text>'


def figure(title: str, boxes: Mapping[str, Box], *arrows: Arrow) -> str:
    """The SVG of a figure."""
    width = 2 * MARGIN + max(box.column for box in boxes.values()) * COLUMN + WIDTH
    height = 2 * MARGIN + max(box.row for box in boxes.values()) * ROW + HEIGHT
    lines = [line for arrow in arrows for line in arrow.svg(boxes)] + [
        line for box in boxes.values() for line in box.svg()
    ]
    head = HEAD.format(width=f"{width:g}", height=f"{height:g}", title=escape(title), ink=INK, paper=PAPER)
    return head + "\n".join(lines) + "\n</svg>\n"


FIGURES: Mapping[str, str] = {
    "kitchen": figure(
        "The order rail between the waiter and the cooks",
        {
            "guest": Box(0, 0, "person", "guest"),
            "waiter": Box(0, 1, "service", "waiter/order service"),
            "rail": Box(1, 1, "queue", "rail/queue"),
            "cook": Box(2, 0.5, "service", "cook/payment service"),
            "second": Box(2, 1.5, "service", "another cook/replica"),
            "spike": Box(1, 2.2, "queue", "spike/dead letters"),
        },
        Arrow("guest", "waiter", "orders"),
        Arrow("waiter", "rail", "clips the/ticket"),
        Arrow("rail", "cook"),
        Arrow("rail", "second"),
        Arrow("rail", "spike", "nobody can read it", dashed=True),
    ),
    "decoupling": figure(
        "Above: one waits for the other. Below: a queue between them",
        {
            "customer": Box(0, 0, "person", "customer"),
            "direct": Box(1, 0, "service", "order service"),
            "charge": Box(2, 0, "service", "payment service"),
            "customer2": Box(0, 1.2, "person", "customer"),
            "order": Box(1, 1.2, "service", "order service"),
            "queue": Box(1, 2.3, "queue", "queue"),
            "payment": Box(2, 2.3, "service", "payment service"),
        },
        Arrow("customer", "direct", "waits"),
        Arrow("direct", "charge", "waits"),
        Arrow("customer2", "order", "202 at once"),
        Arrow("order", "queue", "order.placed"),
        Arrow("queue", "payment", "when it can"),
    ),
    "storage": figure(
        "Where the messages of a queue are, and what they outlive",
        {
            "memory": Box(0, 0, "queue", "in memory"),
            "disk": Box(0, 1, "queue", "persistent"),
            "nodes": Box(0, 2, "queue", "distributed"),
            "process": Box(1, 0, "store", "memory of/one process"),
            "file": Box(1, 1, "store", "disk of/one node"),
            "disks": Box(1, 2, "store", "disks of/three nodes"),
            "bug": Box(2, 0, "person", "a slow consumer"),
            "kill": Box(2, 1, "person", "kill -9, reboot"),
            "fire": Box(2, 2, "person", "the loss of a disk"),
        },
        Arrow("memory", "process", "lies in"),
        Arrow("disk", "file", "lies in"),
        Arrow("nodes", "disks", "lies in"),
        Arrow("process", "bug", "outlives"),
        Arrow("file", "kill", "outlives"),
        Arrow("disks", "fire", "outlives"),
    ),
    "delivery": figure(
        "The five steps of a handler; if it dies before the last, the message comes again",
        {
            "queue": Box(0, 0, "queue", "queue"),
            "handler": Box(1, 0, "service", "handler"),
            "gateway": Box(2, 0, "store", "gateway"),
            "database": Box(1, 1.2, "store", "record and event,/one commit"),
        },
        Arrow("queue", "handler", "1 deliver/5 acknowledge"),
        Arrow("handler", "gateway", "3 effect,/with its key"),
        Arrow("handler", "database", "2 look up, 4 record"),
    ),
    "dead-letters": figure(
        "What fails is tried again, then parked, then sent back on purpose",
        {
            "queue": Box(0, 0, "queue", "charge"),
            "handler": Box(1, 0, "service", "payment service"),
            "retry": Box(2, 0, "queue", "charge.retry.5s"),
            "dead": Box(1, 1.3, "queue", "charge.dead"),
            "person": Box(0, 1.3, "person", "you"),
        },
        Arrow("queue", "handler", "deliver"),
        Arrow("handler", "retry", "fails; back/after 5 s", dashed=True),
        Arrow("handler", "dead", "after the last attempt", dashed=True),
        Arrow("dead", "person", "look, mend"),
        Arrow("person", "queue", "redrive"),
    ),
    "load": figure(
        "A queue makes a steady flow of a rush, and replicas share it",
        {
            "customers": Box(0, 0.5, "person", "a rush"),
            "queue": Box(1, 0.5, "queue", "queue"),
            "first": Box(2, 0, "service", "replica"),
            "second": Box(2, 1, "service", "replica"),
        },
        Arrow("customers", "queue", "2,500 a second"),
        Arrow("queue", "first", "steady"),
        Arrow("queue", "second"),
    ),
    "outbox": figure(
        "The order and its event are one commit; the relay publishes until the broker has confirmed",
        {
            "api": Box(0, 0, "service", "HTTP request"),
            "database": Box(1, 0, "store", "order + outbox row/one commit"),
            "relay": Box(1, 1.2, "service", "outbox relay"),
            "broker": Box(2, 1.2, "queue", "RabbitMQ"),
        },
        Arrow("api", "database", "write"),
        Arrow("database", "relay", "rows not yet confirmed"),
        Arrow("relay", "broker", "publish until/confirmed"),
    ),
}

FIGURE_FILES: Mapping[str, Callable[[], str]] = {
    f"docs/images/{name}.svg": partial(str, svg) for name, svg in FIGURES.items()
}

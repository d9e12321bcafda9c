"""What came of the same orders in line and through a queue. No I/O."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from control_room.experiments.report import Report, joined
from control_room.text import duration, markdown_table

IN_LINE, QUEUED = "in line", "queued"
UP, SLOW, DOWN = "up", "slow", "down"
COLUMNS = ("mail server", "shop", "answered", "failed", "p50", "slowest", "charged and refused", "mails")


@dataclass(frozen=True)
class Seen:
    """What the customers of a shop saw while its mail server was in a state.

    `charged_and_refused`: paid for, and answered with an error. `mails`: that came, in the end.
    """

    mail_server: str
    shop: str
    answered: int
    failed: int
    p50_seconds: float
    slowest_seconds: float
    charged_and_refused: int
    mails: int


@dataclass
class InLineReport(Report):
    """`orders` in each state of the mail server, which takes `slow_seconds` for a mail when it is slow."""

    PROMISE = "with a queue every customer was answered at once and got a mail; in line they waited, or were refused."

    orders: int
    slow_seconds: float
    seen: list[Seen] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        if len(self.seen) < 2 * len((UP, SLOW, DOWN)):
            return ["broken off before all was seen"]
        return [sentence for each in self.seen if (sentence := self._failure(each))]

    def _failure(self, seen: Seen) -> str:
        what = f"{seen.shop}, mail server {seen.mail_server}"
        if seen.shop == QUEUED:
            if seen.failed or seen.mails < seen.answered:
                return f"{what}: {seen.failed} customers were refused, {seen.mails} of {seen.answered} got a mail"
            return f"{what}: customers waited for it" if seen.p50_seconds >= self.slow_seconds else ""
        if seen.mail_server == SLOW and seen.p50_seconds < self.slow_seconds:
            return f"{what}: nobody waited for it, although that is what this shop does"
        if seen.mail_server == DOWN and not seen.charged_and_refused:
            return f"{what}: nobody was charged and refused, although that is what this shop does"
        return ""

    def as_json(self) -> dict[str, Any]:
        return {"held": self.held, "failures": self.failures, **asdict(self)}

    def as_markdown(self) -> str:
        asked = (
            f"{self.orders} orders in each state of the mail server, {self.slow_seconds:g} s for a mail when it is slow"
        )
        return joined(self.heading("In line, or queued", asked, self.PROMISE), markdown_table(COLUMNS, self._rows()))

    def summary(self) -> Iterator[RenderableType]:
        table = Table(*COLUMNS)
        for row in self._rows():
            table.add_row(*row)
        yield table

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for each in self.seen:
            times = (duration(each.p50_seconds), duration(each.slowest_seconds)) if each.answered else ("", "")
            counts = (str(each.answered), str(each.failed))
            yield each.mail_server, each.shop, *counts, *times, str(each.charged_and_refused), str(each.mails)

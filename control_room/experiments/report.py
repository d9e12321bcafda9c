"""What the reports of experiments have in common: a verdict, latencies, an audit, as lines of Markdown. No I/O."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rich.console import RenderableType

from control_room.text import markdown_cell, markdown_table


class Report(ABC):
    """What came of an experiment. `PROMISE` is what its success means, in a sentence."""

    PROMISE: ClassVar[str]

    @property
    @abstractmethod
    def failures(self) -> Sequence[str]:
        """What did not hold, a sentence each."""

    @property
    def held(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @abstractmethod
    def as_json(self) -> dict[str, Any]:
        """For programs."""

    @abstractmethod
    def as_markdown(self) -> str:
        """For people."""

    @abstractmethod
    def summary(self) -> Iterable[RenderableType]:
        """For the terminal: a few lines, or a table."""

    def attachments(self) -> Mapping[str, bytes]:
        """Further files, by name."""
        return {}

    def heading(self, title: str, asked: str, all_held: str) -> list[str]:
        """The title, what was asked for, and whether that held."""
        verdict = all_held if self.held else f"{len(self.failures)} things did not hold:"
        failures = [f"- {markdown_cell(failure)}" for failure in self.failures]
        return [f"# {title}", "", f"{asked}. **{verdict}**", "", *failures]


def joined(*sections: Iterable[str]) -> str:
    """A Markdown page of these sections; an empty one is left out."""
    return "\n".join(line for section in sections if section for line in (*section, ""))


def violations_of(audit: Mapping[str, Any]) -> Iterator[str]:
    """What the audit found wrong, a sentence each; `audit` is its report as JSON."""
    for violation in audit["violations"]:
        yield f"{violation['invariant']}: {violation['subject']}: {violation['what']}"


def audit_section(audit: Mapping[str, Any]) -> list[str]:
    """What was counted, and each invariant with how often it was broken."""
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in audit["counts"].items())
    in_flight = audit["in_flight"]
    note = [f"{in_flight:,} orders were still in flight, and judged as such.", ""] if in_flight else []
    rows = [
        (check["name"], check["meaning"], check["not_judged"] or str(check["violations"])) for check in audit["checks"]
    ]
    return ["## Audit", "", counts, "", *note, *markdown_table(("invariant", "meaning", "violations"), rows)]


def latencies(seconds: Mapping[str, float]) -> str:
    """Percentiles in words, such as `p50 12.3 ms, max 40.0 ms`."""
    return ", ".join(f"{name} {1000 * value:,.1f} ms" for name, value in seconds.items()) or "none"

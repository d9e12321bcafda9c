"""Dead letters on a terminal."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room.operations.dead_letters.dead_letter import DeadLetter, printable
from control_room.operations.dead_letters.moot import why_moot
from control_room.operations.dead_letters.selection import Group
from control_room.text import duration
from shared.events.envelope import SUBJECT

BODY_CHARACTERS = 4000
ERROR_CHARACTERS = 100


def show_groups(console: Console, groups: Sequence[Group], statuses: Mapping[str, str]) -> None:
    """The groups, then some dead letters of each; `statuses` of their subjects say which are moot."""
    if not groups:
        console.print("There are no dead letters.")
        return
    table = Table("queue", "cause", "count", "attempts", "oldest", title="Dead letters")
    for group in groups:
        table.add_row(group.queue, _cause(group), f"{group.count:,}", f"{group.most_attempts}", _age(group.oldest))
    console.print(table)
    for group in groups:
        console.print(f"\n[bold]{group.queue}[/] {_cause(group)}")
        for dead_letter in group.first:
            console.print(escape(_line(dead_letter, why_moot(dead_letter, statuses))), soft_wrap=True)
        if group.count > len(group.first):
            console.print(f"  and {group.count - len(group.first):,} more (--limit shows more of them)")


def _cause(group: Group) -> str:
    return escape(group.cause) or "[yellow]no reason given[/]"


def _line(dead_letter: DeadLetter, moot: str) -> str:
    about = f"{SUBJECT} {dead_letter.order_id}" if dead_letter.order_id else f"no {SUBJECT}"
    tried = f"attempt {dead_letter.attempts}, {_age(dead_letter.parked_at) or 'unknown'} ago"
    redriven = f", redriven {dead_letter.redrives} times" if dead_letter.redrives else ""
    why = dead_letter.error[:ERROR_CHARACTERS]
    return f"  {dead_letter.id}  {about}, {tried}{redriven}: {why}{f' ({moot})' if moot else ''}"


def _age(since: datetime | None) -> str:
    return "" if since is None else duration(max(0.0, (datetime.now(UTC) - since).total_seconds()))


def show_dead_letter(console: Console, dead_letter: DeadLetter, statuses: Mapping[str, str]) -> None:
    """All about one: the queue that it was for, why it is here, its properties, headers and body."""
    facts = {
        "id": dead_letter.id,
        "parked for": dead_letter.queue,
        "cause": dead_letter.reason or "no reason given",
        "error": dead_letter.error,
        "attempts": dead_letter.attempts,
        "parked": f"{dead_letter.parked_at or 'unknown'} ({_age(dead_letter.parked_at)} ago)",
        SUBJECT: dead_letter.order_id or "none",
    } | ({"moot": moot.removeprefix("moot: ")} if (moot := why_moot(dead_letter, statuses)) else {})
    message = dead_letter.message
    properties = {name: value for name, value in dead_letter.properties.items() if value is not None}
    for title, values in (("", facts), ("properties", properties), ("headers", dict(message.headers))):
        if title:
            console.print(f"\n[bold]{title}[/]")
        for name, value in values.items():
            console.print(f"{escape(printable(str(name))):24}{escape(printable(str(value)))}", soft_wrap=True)
    console.print(f"\n[bold]body[/] ({len(message.body):,} bytes)")
    console.print(escape(_body(message.body)), soft_wrap=True)


def _body(body: bytes) -> str:
    """Indented if it is JSON; at most BODY_CHARACTERS of it."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body.decode(errors="backslashreplace")
    shown = "\n".join(printable(line) for line in text[:BODY_CHARACTERS].splitlines())
    return shown + ("\n... (--json has all of it)" if len(text) > BODY_CHARACTERS else "")

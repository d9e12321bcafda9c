"""Dead letters for people, and for machines."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room.operations.dead_letters.discard import whole
from control_room.operations.dead_letters.letter import DeadLetter, printable
from control_room.operations.dead_letters.listing import Group, age

BODY_CHARACTERS = 4000
ERROR_CHARACTERS = 100


def show_groups(console: Console, groups: Sequence[Group]) -> None:
    """The groups, then some letters of each."""
    if not groups:
        console.print("There are no dead letters.")
        return
    table = Table("queue", "cause", "count", "attempts", "oldest", title="Dead letters")
    for group in groups:
        table.add_row(group.queue, _cause(group), f"{group.count:,}", f"{group.most_attempts}", age(group.oldest))
    console.print(table)
    for group in groups:
        console.print(f"\n[bold]{group.queue}[/] {_cause(group)}")
        for letter in group.first:
            _show_line(console, letter)
        if group.count > len(group.first):
            console.print(f"  and {group.count - len(group.first):,} more (--limit shows more of them)")


def _cause(group: Group) -> str:
    return escape(group.cause) or "[yellow]no reason given[/]"


def _show_line(console: Console, letter: DeadLetter) -> None:
    order = f"order {letter.order_id}" if letter.order_id else "no order"
    told = f"attempt {letter.attempts}, {age(letter.parked_at) or 'unknown'} ago"
    again = f", redriven {letter.redrives} times" if letter.redrives else ""
    line = f"  {letter.id}  {order}, {told}{again}: {letter.error[:ERROR_CHARACTERS]}"
    console.print(escape(line), soft_wrap=True)


def show_letter(console: Console, letter: DeadLetter) -> None:
    """All about one: where it was going, why it is here, its properties, headers and body."""
    facts = {
        "id": letter.id,
        "parked for": letter.queue,
        "cause": letter.reason or "no reason given",
        "error": letter.error,
        "attempts": letter.attempts,
        "parked": f"{letter.parked_at or 'unknown'} ({age(letter.parked_at)} ago)",
        "order": letter.order_id or "none",
    }
    message = letter.message
    names = ("message_id", "type", "app_id", "timestamp", "content_type", "exchange", "routing_key")
    properties = {name: value for name in names if (value := getattr(message, name)) is not None}
    for title, values in (("", facts), ("properties", properties), ("headers", dict(message.headers))):
        if title:
            console.print(f"\n[bold]{title}[/]")
        for name, value in values.items():
            console.print(f"{escape(printable(str(name))):24}{escape(printable(str(value)))}", soft_wrap=True)
    console.print(f"\n[bold]body[/] ({len(message.body):,} bytes)")
    console.print(escape(_body(message.body)), soft_wrap=True)


def _body(body: bytes) -> str:
    """Pretty where it is JSON; else as much of it as a person wants to see."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body.decode(errors="backslashreplace")
    shown = "\n".join(printable(line) for line in text[:BODY_CHARACTERS].splitlines())
    return shown + ("\n... (--json has all of it)" if len(text) > BODY_CHARACTERS else "")


def as_json(letter: DeadLetter) -> str:
    """One line with everything."""
    facts = {
        "id": letter.id,
        "queue": letter.queue,
        "cause": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "parked_at": letter.parked_at.isoformat() if letter.parked_at else None,
        "order_id": letter.order_id,
        "redrives": letter.redrives,
        "message": whole(letter),
    }
    return json.dumps(facts, default=str)

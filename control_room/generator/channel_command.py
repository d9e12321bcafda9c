"""`order-rail new channel`: what it prints, and what it leaves to `make`."""

from typing import Annotated

import typer

from control_room.generator import channel
from control_room.generator.checkout import written
from control_room.generator.command import in_checkout, tell
from control_room.text import counted
from shared.contract import services


def channel_command(
    name: Annotated[str, typer.Argument(help="Such as chat.")],
    like: Annotated[str, typer.Option(help="The channel that tells the same people the same: push, for instance.")],
) -> None:
    """Write a channel of notifications: queue, setting, templates, and its lines in all that deploys it."""
    with in_checkout() as root:
        new = channel.checked(name, like, services())
        own = channel.files(new, root)
        shared = channel.edits(new, root)
        is_formatted = written(root, own, shared)
    tell(
        f"The channel {name} is written: {counted(len(own), 'template')}, and its lines in {len(shared)} files",
        {
            f"{new.notifies.name}/notifications.py": f"who is told what over it: now the same as over {like}",
            f"{new.templates}/": f"the words: now those of {like}",
            f"{new.notifies.name}/contract.py": "for how long its provider may be away",
            f"{new.notifies.name}/channels.py": "an adapter, if neither a webhook nor Apprise will do",
            "docs/recipes/add-a-channel.md": "which service is rolled out first, and what nobody waits for yet",
        },
        {
            "make generate": "writes docs/events.md, docs/settings.md and .env.example anew",
            ".venv/bin/pytest tests/unit": "",
            f"{name.upper()}_URL=https://... make up": "sends over it; without an address it is logged",
        },
        is_formatted=is_formatted,
    )

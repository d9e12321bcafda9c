"""The option `--nodes` of the commands that start a private RabbitMQ."""

from typing import Annotated

import typer


def _odd(nodes: int) -> int:
    if nodes % 2 == 0:
        raise typer.BadParameter(f"expected 1, 3 or 5: of {nodes} nodes no more may be lost than of {nodes - 1}")
    return nodes


Nodes = Annotated[
    int, typer.Option(min=1, max=5, callback=_odd, help="Of RabbitMQ: 3 are a cluster that goes on if one is lost.")
]

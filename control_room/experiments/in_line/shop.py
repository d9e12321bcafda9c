"""`python -m control_room.experiments.in_line.shop`: a shop without a queue, as one would write it first.

The customer's request takes the order, charges the card and sends the mail, then it answers. What was done of which
order goes to a journal.
"""

import json
import os
import smtplib
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI

from shared.ids import new_id

MAIL_TIMEOUT_SECONDS = 10.0
MAIL = "Subject: Your order\r\n\r\nThank you.\r\n"


def build(journal: Path, mail_port: int, gateway_seconds: float) -> FastAPI:
    """The shop. Its gateway takes `gateway_seconds`, its mail server listens on `mail_port`."""
    app, lines = FastAPI(), os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(what: str, order_id: str) -> None:
        os.write(lines, json.dumps({"what": what, "order": order_id}).encode() + b"\n")
        os.fsync(lines)

    @app.post("/orders", status_code=202)
    def place(order: dict[str, Any]) -> dict[str, str]:
        order_id = new_id()
        note("placed", order_id)
        time.sleep(gateway_seconds)
        note("charged", order_id)
        with smtplib.SMTP("127.0.0.1", mail_port, timeout=MAIL_TIMEOUT_SECONDS) as mail_server:
            mail_server.sendmail("shop@example.com", order["customer_email"], MAIL)
        note("mailed", order_id)
        return {"order_id": order_id}

    return app


def main(
    journal: Path,
    port: Annotated[int, typer.Option()],
    mail_port: Annotated[int, typer.Option()],
    gateway_seconds: Annotated[float, typer.Option()],
) -> None:
    """Serve until it is killed."""
    app = build(journal, mail_port, gateway_seconds)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)

"""The same orders to both shops, while the mail server that they share is up, slow and down."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from control_room.experiments.in_line.mail_server import MailServer
from control_room.experiments.in_line.report import DOWN, IN_LINE, QUEUED, SLOW, UP, InLineReport, Seen
from control_room.experiments.traffic import NOT_ACCEPTED, Customers, LoadReport, Unexpected, at_their_times, new_order
from control_room.launcher.children import kill, spawn, tail
from control_room.launcher.ports import free_ports
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses
from control_room.operations.roles import ORDERS
from shared.waiting import poll

GATEWAY_SECONDS = 0.1
ORDERS_A_SECOND = 20
ANSWER_TIMEOUT_SECONDS = 30.0
MAILS_WITHIN_SECONDS, START_WITHIN_SECONDS, LOOK_SECONDS = 120.0, 30.0, 0.1

Say = Callable[[str], None]


class InLine:
    """Both shops run. The mail server is in this process; each customer has an address of their own."""

    def __init__(self, report: InLineReport, mail_server: MailServer, urls: dict[str, str], journal: Path) -> None:
        self._report, self._mail_server, self._urls, self._journal = report, mail_server, urls, journal

    async def run(self, say: Say) -> None:
        """Raises Unexpected if mails of the queued shop do not come."""
        for state in (UP, SLOW, DOWN):
            say(f"The mail server is {state}")
            self._mail_server.seconds = self._report.slow_seconds if state == SLOW else 0.0
            if state == DOWN:
                self._mail_server.stop()
            self._report.seen += await asyncio.gather(*(self._order(shop, state) for shop in (IN_LINE, QUEUED)))
        say("The mail server is up again; the queue drains")
        self._mail_server.seconds = 0.0
        await self._mail_server.start()
        await poll(self._all_mailed, within_seconds=MAILS_WITHIN_SECONDS, every_seconds=LOOK_SECONDS)
        self._report.seen = [replace(each, mails=self._mails(each)) for each in self._report.seen]

    async def _order(self, shop: str, state: str) -> Seen:
        """What the customers of a shop see. Charges that were not answered are known of the shop in line."""
        charged = self._charged()
        with Customers(self._urls[shop], answer_timeout_seconds=ANSWER_TIMEOUT_SECONDS) as customers:

            async def start(index: int, due: float) -> None:
                with suppress(*NOT_ACCEPTED):
                    order = new_order(email=_address(shop, state, index))
                    await customers.place(customers.request(order), due)

            await at_their_times((index / ORDERS_A_SECOND for index in range(self._report.orders)), start)
            tally = customers.report()
        refused = self._charged() - charged - tally.accepted if shop == IN_LINE else 0
        return _seen(shop, state, tally, refused)

    def _charged(self) -> int:
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return Counter(json.loads(line)["what"] for line in lines)["charged"]

    async def _all_mailed(self) -> bool:
        return all(self._mails(each) >= each.answered for each in self._report.seen if each.shop == QUEUED)

    def _mails(self, seen: Seen) -> int:
        """Customers who got one."""
        got = set(self._mail_server.recipients)
        return sum(_address(seen.shop, seen.mail_server, index) in got for index in range(self._report.orders))


def _address(shop: str, state: str, index: int) -> str:
    return f"{shop.replace(' ', '-')}-{state}-{index}@example.com"


def _seen(shop: str, state: str, tally: LoadReport, charged_and_refused: int) -> Seen:
    latency = {"p50": 0.0, "max": 0.0, **tally.latency_seconds}
    failed = tally.placed - tally.accepted
    return Seen(state, shop, tally.accepted, failed, latency["p50"], latency["max"], charged_and_refused, 0)


@asynccontextmanager
async def both(report: InLineReport, directory: Path, progress: Say) -> AsyncIterator[InLine]:
    """Order Rail with a private broker, and the shop without a queue. Raises LaunchError, Unexpected."""
    async with MailServer() as mail_server:
        settings = {
            **private_settings(),
            "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}?starttls=never",
            "GATEWAY_LATENCY_SECONDS": str(GATEWAY_SECONDS),
        }
        async with (
            launch(directory, environment=settings, progress=progress) as system,
            in_line_shop(directory, mail_server.port) as (url, journal),
        ):
            urls = {IN_LINE: url, QUEUED: SystemAddresses.of(system.environment).services[ORDERS.name]}
            yield InLine(report, mail_server, urls, journal)


@asynccontextmanager
async def in_line_shop(directory: Path, mail_port: int) -> AsyncIterator[tuple[str, Path]]:
    """Its address and its journal."""
    (port,) = free_ports(1)
    journal, log = directory / "in-line-journal", directory / "in-line-shop.log"
    options = ("--port", str(port), "--mail-port", str(mail_port), "--gateway-seconds", str(GATEWAY_SECONDS))
    command = (sys.executable, "-m", "control_room.experiments.in_line.shop", *options, str(journal))
    process = await spawn(command, os.environ, log)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        if not await poll(listens, within_seconds=START_WITHIN_SECONDS, every_seconds=LOOK_SECONDS):
            raise Unexpected(f"the shop without a queue did not start\n{tail(log)}")
        yield f"http://127.0.0.1:{port}", journal
    finally:
        await kill(process)

"""Helpers for every test: those of `shared/testing`, and those about these services."""

import psutil
import pytest

from control_room.operations.replicas import parsed
from shared.contract import services
from shared.testing.brokers import DELAYS_VARIABLES, addresses_of
from shared.testing.parts import create_tables, new_database, outbox_events, ready, start_ready
from shared.testing.waiting import eventually, never

__all__ = [
    "DELAYS_VARIABLES",
    "SERVICES",
    "SHOP",
    "addresses_of",
    "create_tables",
    "eventually",
    "is_alive",
    "metric",
    "never",
    "new_database",
    "of_the_shop_alone",
    "outbox_events",
    "ready",
    "start_ready",
]

SERVICES = tuple(contract.name for contract in services())
SHOP = ("order_service", "payment_service", "notification_service")

of_the_shop_alone = pytest.mark.skipif(
    set(SERVICES) != set(SHOP), reason=f"holds for {', '.join(SHOP)} alone, and there are more services"
)
"""For what can't be said of services that were added: how large a page with them is, and what their work costs."""


def metric(page: str, name: str, **labels: str) -> float:
    """The sum of the samples of `order_rail_<name>` on a page of /metrics that carry these labels."""
    names = {f"order_rail_{name}", f"order_rail_{name}_total"}
    return sum(each.value for each in parsed(page) if each.name in names and labels.items() <= each.labels.items())


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

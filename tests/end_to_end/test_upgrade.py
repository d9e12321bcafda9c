"""Databases of a62db12, the last version without migrations, with orders that it had not finished: this one does it."""

from pathlib import Path

import pytest

from control_room.launcher.system import launch
from shared.settings import BrokerSettings
from tests.before_migrations import orders, restore
from tests.conftest import QUICK_RETRIES
from tests.order_rail import final_audit
from tests.postgres import PrivatePostgres
from tests.rail import Rail
from tests.support import SHOP, addresses_of, eventually


def databases(kind: str, request: pytest.FixtureRequest, directory: Path) -> dict[str, str]:
    """The variables for the old databases, which lie where the launcher looks for its own if they are files."""
    server: PrivatePostgres | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    names = (*SHOP, "gateway")
    urls = {name: server.create_database() if server else f"sqlite:///{directory / name}.db" for name in names}
    for name, url in urls.items():
        restore(name, url)
    if not server:
        return {}
    own = {f"{name}_DATABASE_URL".upper(): urls[name] for name in SHOP}
    return {**own, "GATEWAY_URL": f"simulated+{urls['gateway']}"}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_order_that_the_version_before_left_open_finishes(
    kind: str, request: pytest.FixtureRequest, module_broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    """Nothing that the old version had in its broker is left: outboxes, ledger and sweep are enough."""
    environment = {**QUICK_RETRIES, **addresses_of(module_broker_settings), "SWEEP_AFTER_SECONDS": "1"}
    environment |= databases(kind, request, tmp_path)
    async with launch(tmp_path, environment=environment) as system, Rail(system).ready() as rail:
        rail.accepted += [order_id for order_id, _ in orders(kind).values()]
        (stalled,) = (order_id for order_id, status in orders(kind).values() if status == "stalled")
        await rail.cancel(stalled)
        await rail.place()  # the sweep tells a lost order by a later one that was not

        declined = {order_id for stage, (order_id, _) in orders(kind).items() if "declined" in stage}
        expected = {order_id: "declined" if order_id in declined else "confirmed" for order_id in rail.accepted}
        await eventually(lambda: rail.have({**expected, stalled: "cancelled"}), 60, "all of them to finish")
        await final_audit(system)

"""What the dashboard makes of counts: views of queues, rates, the backlog, and when it will be gone."""

import pytest
from prometheus_client.samples import Sample

from control_room.dashboard.snapshots.broker import views
from control_room.dashboard.snapshots.drain import seconds_to_drain
from control_room.dashboard.snapshots.services import Meter
from control_room.dashboard.snapshots.snapshot import BROKER_DOWN, BROKER_SILENT, ServiceView, Snapshot
from control_room.operations.replicas import Total, parsed
from shared import contract
from tests.support import SERVICES

PAGE = """\
# HELP order_rail_deliveries_settled_total Deliveries settled, by outcome
order_rail_deliveries_settled_total{queue="payment_service.charge",outcome="ack"} 12.0
order_rail_handling_seconds_bucket{le="0.1",queue="payment_service.charge"} 7.0
order_rail_outbox_pending 3.0
python_info{version="3.11"} 1.0
"""
CONSUMERS = dict.fromkeys(contract.queues(), 1)
COUNTER = ("order_rail_orders_accepted_total", "", "")
GROWING = [1000 * second for second in range(60)]
SHRINKING = [60_000 - 500 * second for second in range(30)]


def queue(name: str, ready: int = 0, held: int = 0) -> dict[str, object]:
    return {"name": name, "messages_ready": ready, "messages_unacknowledged": held}


def test_a_page_of_metrics_is_read_without_its_buckets() -> None:
    settled = Sample("order_rail_deliveries_settled_total", {"queue": "payment_service.charge", "outcome": "ack"}, 12.0)
    assert parsed(PAGE) == [settled, Sample("order_rail_outbox_pending", {}, 3.0)]


def test_a_queue_is_shown_with_its_retry_queues_and_its_dead_letters() -> None:
    found = views(
        [
            queue("payment_service.charge", ready=5, held=64),
            queue("payment_service.charge.retry.1s", ready=2),
            queue("payment_service.charge.retry.30s", ready=1),
            queue("payment_service.charge.dead", ready=4, held=1),
        ],
        CONSUMERS,
    )
    charge = found["payment_service.charge"]
    assert (charge.waiting, charge.in_work, charge.retrying, charge.dead, charge.depth) == (5, 64, 3, 5, 72)
    assert charge.problem == ""


def test_a_queue_that_is_missing_or_has_no_consumer_has_a_problem() -> None:
    found = views([queue("payment_service.charge")], consumers={})
    assert found["payment_service.charge"].problem == "nobody takes from it"
    assert found["order_service.track"].problem == "the queue is missing"


def test_each_problem_is_a_sentence_and_a_silent_broker_is_the_only_one_of_the_broker() -> None:
    snapshot = Snapshot(
        services={"payment_service": ServiceView("payment_service", problems=("it does not run",))},
        queues=views((queue(name) for name in contract.queues()), CONSUMERS),
        exchanges=frozenset(contract.exchanges()) - {"payments"},
        broker_problem="",
    )
    missing = "The exchange payments is missing: order-rail topology apply creates it."
    assert snapshot.problems == ["The payment service does not run.", missing]
    silent = Snapshot(services={}, broker_problem=BROKER_SILENT)
    assert silent.problems == ["RabbitMQ does not answer: the counts of the queues are old."]


def test_before_the_first_look_nothing_is_said_to_be_wrong() -> None:
    assert Snapshot().problems == ["Looking for the first time …"]


def test_an_outside_system_that_fails_is_named_with_since_when_why_and_what_follows() -> None:
    why = "the gateway, since 2026-01-01T12:00:00Z: it answers 503"
    snapshot = Snapshot(services={"payment_service": ServiceView("payment_service", 1, (), degraded=(why,))})
    said = "The gateway has failed since 2026-01-01T12:00:00Z (it answers 503): "
    assert snapshot.degraded == [said + "what the payment service has for it waits, and goes on by itself."]


def test_what_follows_from_a_broker_that_is_down_is_no_problem_of_its_own() -> None:
    away = ("RabbitMQ at 127.0.0.1:5672: connection refused",)
    services = {name: ServiceView(name, 1, away) for name in SERVICES}
    snapshot = Snapshot(services=services, broker_problem=BROKER_DOWN)
    assert snapshot.problems == ["RabbitMQ is down. Orders are still taken and wait in the outbox."]


def test_the_backlog_is_in_outboxes_and_in_the_queues_on_the_way_to_the_customer() -> None:
    snapshot = Snapshot(
        services={
            "order_service": ServiceView("order_service", 1, outbox=10),
            "payment_service": ServiceView("payment_service", 1, outbox=1),
        },
        queues=views(
            [queue("payment_service.charge", ready=100, held=5), queue("notification_service.email", ready=20),
             queue("notification_service.restaurant", ready=1000)], CONSUMERS
        ),
    )  # fmt: skip
    assert snapshot.backlog == 10 + 1 + 105 + 20


@pytest.mark.parametrize(
    ("backlogs", "seconds"),
    [
        ([], 0.0),
        ([0, 0, 0], 0.0),
        ([1000, 900, 800, 700], 7.0),
        ([100, 200, 300], None),
        ([500, 500, 500], None),
        ([500], None),
        ([*GROWING, *SHRINKING], SHRINKING[-1] / 500),  # only the last seconds count
    ],
)
def test_the_time_to_drain_follows_from_how_the_backlog_shrinks(backlogs: list[int], seconds: float | None) -> None:
    expected = None if seconds is None else pytest.approx(seconds)
    assert seconds_to_drain(list(enumerate(backlogs)), outflow=500) == expected


def test_nothing_drains_while_nothing_goes_out_even_if_the_backlog_shrank_a_moment_ago() -> None:
    shrank = [(second, 500.0 - 50 * second) for second in range(10)]
    assert seconds_to_drain(shrank, outflow=0) is None
    assert seconds_to_drain([*shrank, *((second, 16.0) for second in range(10, 15))], outflow=5) is None


def test_a_counter_that_starts_again_goes_on_in_the_total() -> None:
    total = Total()
    for value in (5, 7, 1, 2):
        total.see(value)
    assert total.total == 9


def test_a_meter_shows_the_rate_of_the_last_seconds_and_nothing_once_it_is_stale() -> None:
    meter = Meter()
    for second in range(10):
        meter.read({COUNTER: 100.0 * second}, now=float(second))
    assert meter.per_second(9.5, COUNTER, ("never counted", "", "")) == pytest.approx(100)
    assert meter.per_second(60.0, COUNTER) == 0

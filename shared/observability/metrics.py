"""The metrics of every service, in Prometheus' text format on `/metrics`. One process is one service."""

from functools import cache

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

# Without this each counter has a second sample `_created` that reads like a count and is a timestamp.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

settled = Counter("order_rail_deliveries_settled", "Deliveries settled, by outcome", ["queue", "outcome"])
duplicates = Counter("order_rail_duplicate_deliveries", "Deliveries whose work was found done", ["queue"])
handling_seconds = Histogram("order_rail_handling_seconds", "From delivery to settlement", ["queue"])
published = Counter("order_rail_messages_published", "Publishes, by what became of them", ["exchange", "result"])
outbox_pending = Gauge("order_rail_outbox_pending", "Events committed and not yet confirmed, as last counted")
paused = Gauge("order_rail_paused", "1 while an operator has it take no deliveries")
slowed_seconds = Gauge("order_rail_slowed_seconds", "What each delivery waits by an operator's wish; 0 for none")
connections_opened = Counter("order_rail_broker_connections_opened", "AMQP connections opened", ["connection"])
connected = Gauge("order_rail_broker_connected", "1 while a connection leads to this node", ["connection", "node"])
commits = Counter("order_rail_group_commits", "Transactions that wrote", ["database"])
rows_committed = Counter("order_rail_rows_committed", "Writes made durable by them", ["database"])
degraded = Gauge("order_rail_degraded", "1 while work for an outside system waits, since that fails", ["system"])
held = Gauge("order_rail_deliveries_held", "Deliveries that wait until what the service needs is back", ["queue"])


@cache  # looking it up costs more than counting
def publishes(exchange: str, result: str) -> Counter:
    """The counter of the publishes to an exchange with this result."""
    return published.labels(exchange, result)


def render() -> bytes:
    """Every metric of this process in the text exposition format."""
    return prometheus_client.generate_latest()


CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

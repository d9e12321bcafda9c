"""What must be true of the reconciliation database: each invariant with the query that finds its violations.

A query yields (subject, what) rows. Most look at `stable` orders only: nothing happened to these while the services
were read, nor shortly before, so all services must agree on them.

A message that a stable order lacks may wait in a queue for hours. The view `lacks` has the queue that would deliver
it. The table `waiting` holds the orders that such a message may still be on its way to: lacking it is no violation of
theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from control_room.operations.roles import CHARGE, FINAL_OR_STALLED, NOTIFICATIONS, RESTAURANT, TRACK

NOTIFICATION_PREFIX = f"{NOTIFICATIONS.name}."
JUDGED_QUEUES = (CHARGE, TRACK, *NOTIFICATIONS.queue_names)
"""The queues of which the audit knows what their messages bring to an order."""


def _listed(names: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{name}'" for name in names) + ")"


def _waits(queue: str) -> str:
    """A message of this queue (an SQL expression) may be on its way to order `o`."""
    return f"EXISTS (SELECT 1 FROM waiting w WHERE w.order_id = o.order_id AND w.queue = {queue})"


VIEWS = (
    # An order that is listed twice is a violation of its own, and no other invariant judges it.
    "CREATE VIEW stable AS SELECT * FROM orders WHERE is_stable AND listed = 1",
    # What the gateway's ledger holds of an order's money.
    """CREATE VIEW captured AS
       SELECT order_id, SUM(CASE type WHEN 'charge' THEN amount ELSE -amount END) AS net,
              MIN(currency) AS currency, COUNT(DISTINCT currency) AS currencies
       FROM charges GROUP BY order_id""",
    # The notices of an order, by its status; those by text message only if the customer wants them.
    """CREATE VIEW required_notices (status, channel, notice, is_optional) AS VALUES
       ('paid', 'email', 'receipt', 0), ('paid', 'restaurant', 'kitchen_ticket', 0), ('paid', 'sms', 'receipt', 1),
       ('confirmed', 'email', 'receipt', 0), ('confirmed', 'restaurant', 'kitchen_ticket', 0),
       ('confirmed', 'sms', 'receipt', 1),
       ('declined', 'email', 'decline', 0), ('declined', 'sms', 'decline', 1)""",
    f"""CREATE VIEW missing_notices AS
       SELECT o.*, r.channel, r.notice, '{NOTIFICATION_PREFIX}' || r.channel AS queue
       FROM stable o JOIN required_notices r USING (status)
       WHERE (o.wants_sms OR NOT r.is_optional) AND NOT EXISTS (
           SELECT 1 FROM notifications n
           WHERE n.order_id = o.order_id AND n.channel = r.channel AND n.notice = r.notice)""",
    f"""CREATE VIEW failed_notices AS
       SELECT o.order_id, o.updated_at, n.channel, n.notice, '{NOTIFICATION_PREFIX}' || n.channel AS queue
       FROM stable o JOIN notifications n USING (order_id) WHERE n.status = 'failed'""",
    # The status of the payment, by the order's; a refunded order may have either.
    """CREATE VIEW required_payments (status, payment) AS VALUES
       ('paid', 'succeeded'), ('confirmed', 'succeeded'), ('declined', 'declined'), ('stalled', 'stalled'),
       ('refunded', 'succeeded'), ('refunded', 'refunded')""",
    # The messages that orders lack. `sent_at`: by the clock of the sender; NULL if the message was given up, and
    # perhaps redriven. `is_counted`: the message has been on its way ever since the order changed, so that it was
    # counted; that is unknown of an event that has not reached the order service.
    f"""CREATE VIEW lacks (order_id, queue, sent_at, updated_at, is_counted) AS
       SELECT order_id, '{CHARGE}', placed_at, updated_at, 1 FROM stable o
       WHERE status = 'placed' AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.order_id)
       UNION ALL
       SELECT order_id, '{CHARGE}', NULL, updated_at, 0 FROM stable WHERE status = 'stalled'
       UNION ALL
       SELECT o.order_id, '{TRACK}', p.at, o.updated_at, 0 FROM stable o JOIN payments p USING (order_id)
       WHERE o.status = 'placed' OR o.status = 'stalled' AND p.status != 'stalled'
       UNION ALL
       SELECT o.order_id, '{TRACK}', n.at, o.updated_at, 0 FROM stable o JOIN notifications n USING (order_id)
       WHERE o.status = 'paid' AND n.notice = 'receipt' AND n.status = 'delivered'
       UNION ALL
       SELECT m.order_id, m.queue, p.at, m.updated_at, 1 FROM missing_notices m JOIN payments p USING (order_id)
       UNION ALL
       SELECT order_id, queue, NULL, updated_at, 0 FROM failed_notices""",
    # Orders that lack nothing any more, with each queue that they have passed.
    f"""CREATE VIEW passed (order_id, queue, sent_at, took_seconds, updated_at) AS
       SELECT o.order_id, q.queue, CASE q.queue WHEN '{CHARGE}' THEN o.placed_at ELSE p.at END,
              o.updated_at - o.placed_at, o.updated_at
       FROM stable o JOIN payments p USING (order_id) JOIN (
           SELECT '{CHARGE}' AS queue UNION ALL SELECT '{TRACK}') q
       WHERE o.status IN ('confirmed', 'declined') AND o.order_id NOT IN (SELECT order_id FROM lacking)
       UNION ALL
       SELECT o.order_id, '{NOTIFICATION_PREFIX}' || n.channel, p.at, o.updated_at - o.placed_at, o.updated_at
       FROM stable o JOIN payments p USING (order_id) JOIN notifications n USING (order_id)
       WHERE o.status IN ('confirmed', 'declined') AND n.status = 'delivered'
         AND o.order_id NOT IN (SELECT order_id FROM lacking)""",
)


@dataclass(frozen=True)
class Invariant:
    """`meaning` is the sentence that must be true."""

    name: str
    meaning: str
    query: str


ONE_FINAL_STATE = Invariant(
    "one-final-state",
    "Every order reaches exactly one final state, or is set aside with a dead letter",
    # A paid order may stay so if its receipt was given up: then given-up-has-dead-letter applies. A kitchen ticket
    # does not change an order's status.
    f"""SELECT order_id, 'listed ' || listed || ' times' FROM orders WHERE listed > 1
       UNION ALL
       SELECT order_id, 'still ' || status FROM stable o
       WHERE status NOT IN {_listed(FINAL_OR_STALLED)}
         AND NOT (status = 'paid' AND EXISTS (
             SELECT 1 FROM failed_notices n WHERE n.order_id = o.order_id AND n.notice = 'receipt'))
         AND NOT EXISTS (
             SELECT 1 FROM waiting w
             WHERE w.order_id = o.order_id AND w.queue IN {_listed(set(JUDGED_QUEUES) - {RESTAURANT})})""",
)
DEAD_LETTER_BELONGS = Invariant(
    "dead-letter-belongs",
    "Every dead letter belongs to an order that says so, or to none",
    # With the reasons excepted here a service parks a message without giving up the order's work: poison.
    f"""SELECT order_id, queue || ' has a dead letter of it, but the order is ' || status || ' and says nothing of it'
       FROM dead_letters d JOIN stable o USING (order_id)
       WHERE NOT d.discarded AND d.queue IN {_listed(JUDGED_QUEUES)}
         AND d.reason NOT IN ('not-for-this-queue', 'undecodable-properties', 'unknown-order', 'delivery-limit', '')
         AND NOT (d.queue = '{CHARGE}' AND o.status = 'stalled')
         AND NOT EXISTS (SELECT 1 FROM failed_notices n WHERE n.order_id = d.order_id AND n.queue = d.queue)
         AND NOT EXISTS (SELECT 1 FROM given_up g WHERE g.order_id = d.order_id AND g.queue = d.queue)""",
)
OUTBOXES_EMPTY = Invariant(
    "outboxes-empty",
    "No event waits to be published once no order is in flight",
    "SELECT subject, what FROM leftovers WHERE invariant = 'outboxes-empty'",
)
QUEUES_EMPTY = Invariant(
    "queues-empty",
    "Every queue exists, and no message waits in one or in a retry queue once no order is in flight",
    "SELECT subject, what FROM leftovers WHERE invariant = 'queues-empty'",
)
IDLE_ONLY = (OUTBOXES_EMPTY, QUEUES_EMPTY)
"""Judged only while no order is in flight; their subjects are services and queues."""

INVARIANTS = (
    Invariant(
        "accepted-order-exists",
        "Every order that was answered with 202 exists",
        """SELECT a.order_id, 'answered with 202, but the order service does not have it'
           FROM accepted a LEFT JOIN orders o USING (order_id) WHERE o.order_id IS NULL
           UNION ALL SELECT order_id, 'gone: it was there when the audit began' FROM orders WHERE listed = 0""",
    ),
    Invariant(
        "belongs-to-an-order",
        "Every payment, charge and notification belongs to an order that exists",
        """SELECT order_id, 'a ' || kind || ' of an order that does not exist' FROM (
               SELECT 'payment' AS kind, order_id FROM payments
               UNION ALL SELECT type, order_id FROM charges
               UNION ALL SELECT 'notification', order_id FROM notifications
               UNION ALL SELECT '"' || kind || '" row', order_id FROM others
           ) r WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = r.order_id)""",
    ),
    ONE_FINAL_STATE,
    Invariant(
        "charged-once",
        "The gateway's ledger has at most one charge of an order",
        """SELECT order_id, COUNT(*) || ' charges in the ledger' FROM charges
           WHERE type = 'charge' GROUP BY order_id HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "captured-equals-total",
        "Charged minus refunded is the total of each paid order, and nothing of each refunded one",
        """SELECT o.order_id, 'the ledger kept ' || COALESCE(c.net || ' ' || c.currency, 'nothing')
                  || ' of ' || o.amount || ' ' || o.currency
           FROM stable o LEFT JOIN captured c USING (order_id)
           WHERE o.status IN ('paid', 'confirmed')
             AND (c.net IS NOT o.amount OR c.currency IS NOT o.currency OR c.currencies != 1)
           UNION ALL
           SELECT o.order_id, 'refunded, and the ledger kept ' || c.net FROM stable o JOIN captured c USING (order_id)
           WHERE o.status = 'refunded' AND c.net != 0""",
    ),
    Invariant(
        "declined-not-charged",
        "Nothing is kept of a declined or cancelled order's money",
        """SELECT o.order_id, o.status || ', and the ledger kept ' || c.net
           FROM stable o JOIN captured c USING (order_id) WHERE o.status IN ('declined', 'cancelled') AND c.net != 0""",
    ),
    Invariant(
        "payment-agrees",
        "The payment service says the same of an order as the order service",
        """SELECT o.order_id, 'the order is ' || o.status || ', the payment ' || COALESCE(p.status, 'missing')
           FROM stable o LEFT JOIN payments p USING (order_id)
           WHERE o.status IN (SELECT status FROM required_payments)
             AND NOT EXISTS (SELECT 1 FROM required_payments r WHERE r.status = o.status AND r.payment = p.status)
           UNION ALL
           SELECT o.order_id, 'the order is ' || o.status || ', the payment ' || p.status
           FROM stable o JOIN payments p USING (order_id) WHERE o.status = 'cancelled' AND p.status = 'succeeded'
           UNION ALL
           SELECT o.order_id,
                  'a payment of ' || p.amount || ' ' || p.currency || ' for ' || o.amount || ' ' || o.currency
           FROM stable o JOIN payments p USING (order_id) WHERE (p.amount, p.currency) != (o.amount, o.currency)
           UNION ALL
           SELECT order_id, COUNT(*) || ' payments' FROM payments GROUP BY order_id HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "final-order-notified",
        "Each recipient of a paid or declined order has been notified, or a dead letter says why not",
        # For a notice that was given up given-up-has-dead-letter applies. But a confirmed order has a receipt.
        f"""SELECT order_id, 'no ' || notice || ' by ' || channel FROM missing_notices o WHERE NOT {_waits("o.queue")}
           UNION ALL
           SELECT o.order_id, 'confirmed, and no receipt was delivered' FROM stable o
           WHERE o.status = 'confirmed' AND NOT EXISTS (
               SELECT 1 FROM notifications n
               WHERE n.order_id = o.order_id AND n.notice = 'receipt' AND n.status = 'delivered')""",
    ),
    Invariant(
        "notified-once",
        "Nobody is told the same thing twice",
        """SELECT order_id, notice || ' by ' || channel || ' ' || COUNT(*) || ' times' FROM notifications
           GROUP BY order_id, channel, notice HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "told-what-is-true",
        "No receipt or kitchen ticket for an unpaid order, no word of a decline for a paid one",
        """SELECT o.order_id, 'the order is ' || o.status || ', but there is a ' || n.notice || ' by ' || n.channel
           FROM stable o JOIN notifications n USING (order_id)
           WHERE n.notice IN ('receipt', 'kitchen_ticket') AND o.status IN ('placed', 'declined', 'stalled')
              OR n.notice = 'decline' AND o.status != 'declined'""",
    ),
    Invariant(
        "recorded-once",
        "Each further service has recorded the same thing of an order once",
        """SELECT order_id, kind || ' ' || key || ' ' || COUNT(*) || ' times in ' || service FROM others
           GROUP BY order_id, service, kind, key HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "stalled-has-dead-letter",
        "Every stalled order has a dead letter that says why",
        f"""SELECT order_id, 'stalled, and there is no dead letter of its charge' FROM stable o
           WHERE status = 'stalled' AND NOT {_waits(f"'{CHARGE}'")} AND NOT EXISTS (
               SELECT 1 FROM dead_letters d WHERE d.order_id = o.order_id AND d.queue = '{CHARGE}')""",
    ),
    Invariant(
        "given-up-has-dead-letter",
        "Every notification that was given up has a dead letter that says why",
        f"""SELECT order_id, notice || ' by ' || channel || ' was given up, and there is no dead letter of it'
           FROM failed_notices o WHERE NOT {_waits("o.queue")} AND NOT EXISTS (
               SELECT 1 FROM dead_letters d WHERE d.order_id = o.order_id AND d.queue = o.queue)""",
    ),
    Invariant(
        "dead-letter-has-reason",
        "Every dead letter says why it is one",
        """SELECT CASE order_id WHEN '' THEN id ELSE order_id END,
                  queue || '.dead holds ' || id || ' without a reason'
           FROM dead_letters WHERE reason = ''""",
    ),
    DEAD_LETTER_BELONGS,
    *IDLE_ONLY,
)

"""What must be true of the reconciliation database: each invariant with the query that finds its violations.

A query yields (subject, what) rows. Most look at `stable` orders only: nothing happened to these while the services
were read, nor shortly before, so all services must agree on them.

A message that a stable order lacks may wait in a queue for hours. The view `lacks` has the queue that would deliver
it. The table `waiting` holds the orders that such a message may still be on its way to: lacking it is no violation of
theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from control_room.operations.dead_letters import moot
from control_room.operations.roles import CHARGE, FINAL_OR_STALLED, NOTIFICATIONS, RESTAURANT, TAKEN_BACK, TRACK
from shared.events import OrderCancelled, OrderPlaced

NOTIFICATION_PREFIX = f"{NOTIFICATIONS.name}."
JUDGED_QUEUES = (CHARGE, TRACK, *NOTIFICATIONS.queue_names)
"""The queues of which the audit knows what their messages bring to an order."""


PLACED, CANCELLED = OrderPlaced.family(), OrderCancelled.family()


NOW = "(julianday('now') - 2440587.5) * 86400.0"
"""Seconds since 1970, in SQL: SQLite's `unixepoch` has fractions only in new versions."""


def _listed(names: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{name}'" for name in names) + ")"


def _waits(queue: str) -> str:
    """A message of this queue (an SQL expression) may be on its way to order `o`."""
    return f"EXISTS (SELECT 1 FROM waiting w WHERE w.order_id = o.order_id AND w.queue = {queue})"


def _kept(amount: str) -> str:
    """What the ledger kept of order `o`, which has the row `c` in `captured`, is exactly this amount."""
    return f"(c.charged - c.refunded IS {amount} AND c.currency IS o.currency AND c.currencies = 1)"


VIEWS = (
    # An order that is listed twice is a violation of its own, and no other invariant judges it.
    "CREATE VIEW stable AS SELECT * FROM orders WHERE is_stable AND listed = 1",
    # What the gateway's ledger holds of an order's money.
    """CREATE VIEW captured AS
       SELECT order_id, SUM(CASE type WHEN 'charge' THEN amount ELSE 0 END) AS charged,
              SUM(CASE type WHEN 'charge' THEN 0 ELSE amount END) AS refunded,
              MIN(currency) AS currency, COUNT(DISTINCT currency) AS currencies
       FROM charges GROUP BY order_id""",
    # The notices of an order, by its status; `wish`: only if the customer wants them over this channel.
    """CREATE VIEW required_notices (status, channel, notice, wish) AS
       WITH told (status, customer, restaurant) AS (VALUES
           ('paid', 'receipt', 'kitchen_ticket'), ('confirmed', 'receipt', 'kitchen_ticket'),
           ('declined', 'decline', NULL), ('cancelled', 'cancellation', NULL), ('refunded', 'refund', 'kitchen_stop'))
       SELECT status, 'email', customer, '' FROM told
       UNION ALL SELECT status, 'sms', customer, 'sms' FROM told
       UNION ALL SELECT status, 'push', customer, 'push' FROM told
       UNION ALL SELECT status, 'restaurant', restaurant, '' FROM told WHERE restaurant IS NOT NULL""",
    # What may have been told of an order, by its status. Each status may follow from others: a cancelled order may
    # have been declined just before, and a refunded one paid, or even called off as not charged.
    """CREATE VIEW true_notices (status, notice) AS VALUES
       ('paid', 'receipt'), ('paid', 'kitchen_ticket'), ('confirmed', 'receipt'), ('confirmed', 'kitchen_ticket'),
       ('declined', 'decline'), ('cancelling', 'receipt'), ('cancelling', 'kitchen_ticket'), ('cancelling', 'decline'),
       ('cancelled', 'decline'), ('cancelled', 'cancellation'),
       ('refunded', 'receipt'), ('refunded', 'kitchen_ticket'), ('refunded', 'cancellation'), ('refunded', 'refund'),
       ('refunded', 'kitchen_stop')""",
    # Of two notices over one channel that with the higher rank is the later truth.
    """CREATE VIEW ranked_notices (notice, rank) AS VALUES
       ('receipt', 1), ('decline', 1), ('kitchen_ticket', 1), ('cancellation', 2), ('refund', 3),
       ('kitchen_stop', 3)""",
    f"""CREATE VIEW missing_notices AS
       SELECT o.*, r.channel, r.notice, '{NOTIFICATION_PREFIX}' || r.channel AS queue
       FROM stable o JOIN required_notices r USING (status)
       WHERE (r.wish = '' OR r.wish = 'sms' AND o.wants_sms OR r.wish = 'push' AND o.wants_push) AND NOT EXISTS (
           SELECT 1 FROM notifications n
           WHERE n.order_id = o.order_id AND n.channel = r.channel AND n.notice = r.notice)""",
    # Nobody waits for a notice that a later one, which the order requires, has made untrue.
    f"""CREATE VIEW failed_notices AS
       SELECT o.order_id, o.updated_at, n.channel, n.notice, '{NOTIFICATION_PREFIX}' || n.channel AS queue
       FROM stable o JOIN notifications n USING (order_id) LEFT JOIN ranked_notices USING (notice)
       WHERE n.status = 'failed' AND NOT (o.status IN {_listed(TAKEN_BACK)} AND rank = 1)""",
    """CREATE VIEW required_payments (status, payment) AS VALUES
       ('paid', 'succeeded'), ('confirmed', 'succeeded'), ('declined', 'declined'), ('stalled', 'stalled'),
       ('cancelled', 'voided'), ('refunded', 'refunded')""",
    # Orders whose cancellation was given up: its message is a dead letter.
    f"""CREATE VIEW set_aside AS
       SELECT o.* FROM stable o WHERE status = 'cancelling' AND EXISTS (
           SELECT 1 FROM dead_letters d
           WHERE d.order_id = o.order_id AND d.queue = '{CHARGE}' AND d.event = '{CANCELLED}')""",
    # The messages that orders lack, of any event or of this one. `sent_at`: by the clock of the sender; NULL if the
    # message was given up, and perhaps redriven. `is_counted`: the message has been on its way ever since the order
    # changed, so that it was counted; that is unknown of an event that has not reached the order service.
    f"""CREATE VIEW lacks (order_id, queue, event, sent_at, updated_at, is_counted) AS
       SELECT order_id, '{CHARGE}', '{PLACED}', placed_at, updated_at, 1 FROM stable o
       WHERE status = 'placed' AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.order_id)
       UNION ALL
       SELECT order_id, '{CHARGE}', '{PLACED}', NULL, updated_at, 0 FROM stable WHERE status = 'stalled'
       UNION ALL
       -- Nothing tells a refund that was given up, and redriven, from one that was never tried.
       SELECT o.order_id, '{CHARGE}', '{CANCELLED}', CASE WHEN p.status IS 'succeeded' THEN NULL ELSE o.updated_at END,
              o.updated_at, p.status IS NOT 'succeeded'
       FROM stable o LEFT JOIN payments p USING (order_id)
       WHERE o.status = 'cancelling' AND COALESCE(p.status, '') NOT IN ('voided', 'refunded')
       UNION ALL
       -- The charge was under way when it was voided: its message refunds it.
       SELECT o.order_id, '{CHARGE}', '', NULL, o.updated_at, 0 FROM stable o JOIN captured USING (order_id)
       WHERE o.status = 'cancelled' AND charged != 0
       UNION ALL
       SELECT o.order_id, '{TRACK}', '', p.at, o.updated_at, 0 FROM stable o JOIN payments p USING (order_id)
       WHERE o.status = 'placed' OR o.status = 'stalled' AND p.status != 'stalled'
          OR o.status = 'cancelling' AND p.status IN ('voided', 'refunded')
          OR o.status = 'cancelled' AND p.status = 'refunded'
       UNION ALL
       SELECT o.order_id, '{TRACK}', '', n.at, o.updated_at, 0 FROM stable o JOIN notifications n USING (order_id)
       WHERE o.status = 'paid' AND n.notice = 'receipt' AND n.status = 'delivered'
       UNION ALL
       SELECT m.order_id, m.queue, '', p.at, m.updated_at, 1 FROM missing_notices m JOIN payments p USING (order_id)
       UNION ALL
       SELECT order_id, queue, '', NULL, updated_at, 0 FROM failed_notices""",
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
    # A paid order may stay so if its receipt was given up: then given-up-has-dead-letter applies. An order that is
    # being cancelled stays so if its refund was given up. A kitchen ticket does not change an order's status.
    f"""SELECT order_id, 'listed ' || listed || ' times' FROM orders WHERE listed > 1
       UNION ALL
       SELECT order_id, 'still ' || status FROM stable o
       WHERE status NOT IN {_listed(FINAL_OR_STALLED)}
         AND NOT (status = 'paid' AND EXISTS (
             SELECT 1 FROM failed_notices n WHERE n.order_id = o.order_id AND n.notice = 'receipt'))
         AND o.order_id NOT IN (SELECT order_id FROM set_aside)
         AND NOT EXISTS (
             SELECT 1 FROM waiting w
             WHERE w.order_id = o.order_id AND w.queue IN {_listed(set(JUDGED_QUEUES) - {RESTAURANT})})""",
)
DEAD_LETTER_BELONGS = Invariant(
    "dead-letter-belongs",
    "Every dead letter belongs to an order that says so, or to none",
    # With the reasons excepted here a service parks a message without giving up the order's work: poison. Once an order
    # is taken back, dead letters of what came before are moot: a redrive changes nothing.
    f"""SELECT order_id, queue || ' has a dead letter of it, but the order is ' || status || ' and says nothing of it'
       FROM dead_letters d JOIN stable o USING (order_id)
       WHERE NOT d.discarded AND d.queue IN {_listed(JUDGED_QUEUES)}
         AND d.reason NOT IN ('not-for-this-queue', 'undecodable-properties', 'unknown-order', 'delivery-limit', '')
         AND NOT (d.queue = '{CHARGE}' AND o.status IN ('stalled', 'cancelling'))
         AND NOT (o.status IN {_listed(TAKEN_BACK)} AND d.queue IN {_listed(moot.QUEUES)}
                  AND d.event NOT IN {_listed(moot.NEVER_MOOT)})
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
           FROM accepted a LEFT JOIN orders o USING (order_id)
           WHERE o.order_id IS NULL AND a.order_id NOT IN (SELECT order_id FROM after_backup)
           UNION ALL SELECT order_id, 'gone: it was there when the audit began' FROM orders WHERE listed = 0""",
    ),
    Invariant(
        "cancellation-holds",
        "Every order whose cancellation was answered with 202 is taken back, or on its way there",
        f"""SELECT order_id, 'its cancellation was answered with 202, and the order is ' || status
           FROM called_off JOIN orders USING (order_id)
           WHERE listed AND order_id NOT IN (SELECT order_id FROM after_backup)
             AND status NOT IN {_listed(("cancelling", *TAKEN_BACK))}""",
    ),
    Invariant(
        "belongs-to-an-order",
        "Every payment, charge and notification belongs to an order that exists",
        """SELECT order_id, 'a ' || kind || ' of an order that does not exist' FROM (
               SELECT 'payment' AS kind, order_id FROM payments
               UNION ALL SELECT type, order_id FROM charges
               UNION ALL SELECT 'notification', order_id FROM notifications
               UNION ALL SELECT '"' || kind || '" row', order_id FROM others
           ) r WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = r.order_id)
                 AND order_id NOT IN (SELECT order_id FROM after_backup)""",
    ),
    ONE_FINAL_STATE,
    Invariant(
        "charged-once",
        "The gateway's ledger has at most one charge of an order",
        """SELECT order_id, COUNT(*) || ' charges in the ledger' FROM charges
           WHERE type = 'charge' GROUP BY order_id HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "refunded-once",
        "The gateway's ledger has at most one refund of an order, and none without a charge",
        """SELECT order_id, SUM(type != 'charge') || ' refunds of ' || SUM(type = 'charge') || ' charges in the ledger'
           FROM charges GROUP BY order_id
           HAVING SUM(type != 'charge') > 1 OR SUM(type != 'charge') > SUM(type = 'charge')""",
    ),
    Invariant(
        "captured-equals-total",
        "Charged minus refunded is the total of each paid order, nothing of each refunded one, and one of both until "
        "the end",
        # An order that is open, or set aside, may have been charged, or refunded, by a gateway whose answer was lost.
        f"""SELECT o.order_id, o.status || ', and the ledger has ' || COALESCE(c.charged, 0) || ' charged, '
                  || COALESCE(c.refunded, 0) || ' refunded ' || COALESCE(c.currency, '')
                  || ' of ' || o.amount || ' ' || o.currency
           FROM stable o LEFT JOIN captured c USING (order_id)
           WHERE o.status IN ('paid', 'confirmed') AND NOT ({_kept("o.amount")} AND c.refunded = 0)
              OR o.status = 'refunded' AND NOT ({_kept("0")} AND c.charged = o.amount)
              OR o.status IN ('placed', 'stalled', 'cancelling') AND c.charged IS NOT NULL
                 AND NOT ({_kept("o.amount")} OR {_kept("0")} AND c.charged = o.amount)""",
    ),
    Invariant(
        "declined-not-charged",
        "Nothing was charged to a declined or cancelled order",
        # A charge that was under way while it was voided is refunded, or a dead letter says why not.
        f"""SELECT o.order_id, o.status || ', and the ledger has ' || c.charged || ' charged, '
                  || c.refunded || ' refunded'
           FROM stable o JOIN captured c USING (order_id)
           WHERE o.status = 'declined' AND c.charged + c.refunded != 0
              OR o.status = 'cancelled' AND c.charged + c.refunded != 0 AND NOT {_waits(f"'{CHARGE}'")}
                 AND NOT EXISTS (
                     SELECT 1 FROM dead_letters d WHERE d.order_id = o.order_id AND d.queue = '{CHARGE}')""",
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
           FROM stable o JOIN payments p USING (order_id)
           WHERE o.status = 'cancelling' AND p.status IN ('voided', 'refunded')
           UNION ALL
           SELECT o.order_id,
                  'a payment of ' || p.amount || ' ' || p.currency || ' for ' || o.amount || ' ' || o.currency
           FROM stable o JOIN payments p USING (order_id) WHERE (p.amount, p.currency) != (o.amount, o.currency)
           UNION ALL
           SELECT order_id, COUNT(*) || ' payments' FROM payments GROUP BY order_id HAVING COUNT(*) > 1""",
    ),
    Invariant(
        "final-order-notified",
        "Each recipient of a paid, declined or cancelled order has been notified, or a dead letter says why not",
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
        "No receipt or kitchen ticket for an unpaid order, no word of a decline, a cancellation or a refund for others",
        """SELECT o.order_id, 'the order is ' || o.status || ', but there is a ' || n.notice || ' by ' || n.channel
           FROM stable o JOIN notifications n USING (order_id)
           WHERE (o.status, n.notice) NOT IN (SELECT status, notice FROM true_notices)""",
    ),
    Invariant(
        "newest-told-last",
        "Nobody is told an older truth after a newer one, such as of a receipt after the refund",
        # A time before the order or in the future is that of a wrong clock, and says nothing.
        f"""SELECT o.order_id, older.notice || ' by ' || older.channel || ' after the ' || newer.notice
           FROM notifications newer JOIN ranked_notices s ON s.notice = newer.notice AND s.rank > 1
           CROSS JOIN notifications older ON older.order_id = newer.order_id AND older.channel = newer.channel
           JOIN ranked_notices r ON r.notice = older.notice AND r.rank < s.rank
           JOIN stable o ON o.order_id = newer.order_id
           WHERE older.status = 'delivered' AND newer.status = 'delivered' AND older.at > newer.at
             AND older.at < {NOW} AND newer.at >= o.placed_at""",
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

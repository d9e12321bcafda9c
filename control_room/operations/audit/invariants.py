"""What must be true of the books: each invariant with the query that finds what breaks it.

A query answers (subject, what) rows: whom it is about, and what is wrong in a few words. Most speak of `settled`
orders only: nothing has happened to those while the books were read, nor shortly before, so the books must agree.

What a settled order lacks may be on its way all the same: its message may wait for hours. `lacks` says which queue
would bring it, `waiting` which orders such a message may still be waiting for, and those are not blamed for it.
"""

from dataclasses import dataclass

VIEWS = (
    # An order listed twice is reported as such, and nothing else can be said of it.
    "CREATE VIEW settled AS SELECT * FROM orders WHERE is_settled AND listed = 1",
    # What the ledger kept of an order's money.
    """CREATE VIEW kept AS
       SELECT order_id, SUM(CASE type WHEN 'charge' THEN amount ELSE -amount END) AS net,
              MIN(currency) AS currency, COUNT(DISTINCT currency) AS currencies
       FROM charges GROUP BY order_id""",
    # Who must be told of an order, by its status; by text message only if the customer wants it.
    """CREATE VIEW to_be_told (status, channel, notice, by_wish) AS VALUES
       ('paid', 'email', 'receipt', 0),
       ('paid', 'restaurant', 'kitchen_ticket', 0),
       ('paid', 'sms', 'receipt', 1),
       ('confirmed', 'email', 'receipt', 0),
       ('confirmed', 'restaurant', 'kitchen_ticket', 0),
       ('confirmed', 'sms', 'receipt', 1),
       ('declined', 'email', 'decline', 0),
       ('declined', 'sms', 'decline', 1)""",
    # What the payment service must say of an order, by its status; for a refunded one either will do.
    """CREATE VIEW to_be_paid (status, payment) AS VALUES
       ('paid', 'succeeded'), ('confirmed', 'succeeded'), ('declined', 'declined'), ('stalled', 'stalled'),
       ('refunded', 'succeeded'), ('refunded', 'refunded')""",
    # What each order lacks: the queue whose message would bring it, when that message was sent, by the clock of its
    # sender (NULL: given up, and perhaps sent back), and whether it must have been on its way ever since the order
    # changed, so that it was counted. Of what the order has not heard yet, that can't be said.
    """CREATE VIEW lacks (order_id, queue, sent_at, updated_at, is_counted) AS
       SELECT order_id, 'payment_service.charge', placed_at, updated_at, 1 FROM settled o
       WHERE status = 'placed' AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.order_id)
       UNION ALL
       SELECT order_id, 'payment_service.charge', NULL, updated_at, 0 FROM settled WHERE status = 'stalled'
       UNION ALL
       SELECT o.order_id, 'order_service.track', p.at, o.updated_at, 0 FROM settled o JOIN payments p USING (order_id)
       WHERE o.status = 'placed' OR o.status = 'stalled' AND p.status != 'stalled'
       UNION ALL
       SELECT o.order_id, 'order_service.track', n.at, o.updated_at, 0
       FROM settled o JOIN notifications n USING (order_id)
       WHERE o.status = 'paid' AND n.notice = 'receipt' AND n.status = 'delivered'
       UNION ALL
       SELECT o.order_id, 'notification_service.' || t.channel, p.at, o.updated_at, 1
       FROM settled o JOIN to_be_told t USING (status) JOIN payments p USING (order_id)
       WHERE (o.wants_sms OR NOT t.by_wish) AND NOT EXISTS (
           SELECT 1 FROM notifications n
           WHERE n.order_id = o.order_id AND n.channel = t.channel AND n.notice = t.notice)
       UNION ALL
       SELECT o.order_id, 'notification_service.' || n.channel, NULL, o.updated_at, 0
       FROM settled o JOIN notifications n USING (order_id) WHERE n.status = 'failed'""",
    # Orders that lack nothing any more, and the queues that they have been through.
    """CREATE VIEW passed (order_id, queue, sent_at, took_seconds, updated_at) AS
       SELECT o.order_id, q.queue, CASE q.queue WHEN 'payment_service.charge' THEN o.placed_at ELSE p.at END,
              o.updated_at - o.placed_at, o.updated_at
       FROM settled o JOIN payments p USING (order_id) JOIN (
           SELECT 'payment_service.charge' AS queue UNION ALL SELECT 'order_service.track') q
       WHERE o.status IN ('confirmed', 'declined') AND NOT EXISTS (
           SELECT 1 FROM lacking l WHERE l.order_id = o.order_id)
       UNION ALL
       SELECT o.order_id, 'notification_service.' || n.channel, p.at, o.updated_at - o.placed_at, o.updated_at
       FROM settled o JOIN payments p USING (order_id) JOIN notifications n USING (order_id)
       WHERE o.status IN ('confirmed', 'declined') AND n.status = 'delivered' AND NOT EXISTS (
           SELECT 1 FROM lacking l WHERE l.order_id = o.order_id)""",
)


@dataclass(frozen=True)
class Invariant:
    """`meaning` is the sentence that must be true."""

    name: str
    meaning: str
    query: str


ACCEPTED_ORDER_EXISTS = Invariant(
    "accepted-order-exists",
    "Every order that was answered with 202 exists",
    """SELECT a.order_id, 'answered with 202, and the order service has never heard of it'
       FROM accepted a LEFT JOIN orders o USING (order_id) WHERE o.order_id IS NULL
       UNION ALL SELECT order_id, 'gone: it was there when the audit began' FROM orders WHERE listed = 0""",
)
BELONGS_TO_AN_ORDER = Invariant(
    "belongs-to-an-order",
    "Every payment, charge and notification belongs to an order that exists",
    """SELECT order_id, 'a ' || kind || ' of an order that does not exist' FROM (
           SELECT 'payment' AS kind, order_id FROM payments
           UNION ALL SELECT type, order_id FROM charges
           UNION ALL SELECT 'notification', order_id FROM notifications
       ) r WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = r.order_id)""",
)
ONE_FINAL_STATE = Invariant(
    "one-final-state",
    "Every order reaches exactly one final state, or is set aside with a dead letter",
    # A paid order is set aside where its receipt was given up: given-up-has-dead-letter looks at that. What else it
    # lacks is final-order-notified's.
    """SELECT order_id, 'listed ' || listed || ' times' FROM orders WHERE listed > 1
       UNION ALL
       SELECT order_id, 'still ' || status FROM settled o
       WHERE status NOT IN ('confirmed', 'declined', 'cancelled', 'refunded', 'stalled')
         AND NOT (status = 'paid' AND EXISTS (
             SELECT 1 FROM notifications n
             WHERE n.order_id = o.order_id AND n.notice = 'receipt' AND n.status = 'failed'))
         AND NOT EXISTS (
             SELECT 1 FROM waiting w
             WHERE w.order_id = o.order_id AND w.queue != 'notification_service.restaurant')""",
)
CHARGED_ONCE = Invariant(
    "charged-once",
    "The gateway's ledger has at most one charge of an order",
    """SELECT order_id, COUNT(*) || ' charges in the ledger' FROM charges
       WHERE type = 'charge' GROUP BY order_id HAVING COUNT(*) > 1""",
)
CAPTURED_EQUALS_TOTAL = Invariant(
    "captured-equals-total",
    "Charged minus refunded is the total of each paid order, and nothing of each refunded one",
    """SELECT o.order_id, 'the ledger kept ' || COALESCE(k.net || ' ' || k.currency, 'nothing')
              || ' of ' || o.amount || ' ' || o.currency
       FROM settled o LEFT JOIN kept k USING (order_id)
       WHERE o.status IN ('paid', 'confirmed')
         AND (k.net IS NOT o.amount OR k.currency IS NOT o.currency OR k.currencies != 1)
       UNION ALL
       SELECT o.order_id, 'refunded, and the ledger kept ' || k.net FROM settled o JOIN kept k USING (order_id)
       WHERE o.status = 'refunded' AND k.net != 0""",
)
DECLINED_NOT_CHARGED = Invariant(
    "declined-not-charged",
    "Nothing is kept of a declined or cancelled order's money",
    """SELECT o.order_id, o.status || ', and the ledger kept ' || k.net FROM settled o JOIN kept k USING (order_id)
       WHERE o.status IN ('declined', 'cancelled') AND k.net != 0""",
)
PAYMENT_AGREES = Invariant(
    "payment-agrees",
    "The payment service says the same of an order as the order service",
    """SELECT o.order_id, 'the order is ' || o.status || ', the payment ' || COALESCE(p.status, 'missing')
       FROM settled o LEFT JOIN payments p USING (order_id)
       WHERE o.status IN (SELECT status FROM to_be_paid)
         AND NOT EXISTS (SELECT 1 FROM to_be_paid t WHERE t.status = o.status AND t.payment = p.status)
       UNION ALL
       SELECT o.order_id, 'the order is ' || o.status || ', the payment ' || p.status
       FROM settled o JOIN payments p USING (order_id) WHERE o.status = 'cancelled' AND p.status = 'succeeded'
       UNION ALL
       SELECT o.order_id, 'a payment of ' || p.amount || ' ' || p.currency || ' for ' || o.amount || ' ' || o.currency
       FROM settled o JOIN payments p USING (order_id) WHERE (p.amount, p.currency) != (o.amount, o.currency)
       UNION ALL
       SELECT order_id, COUNT(*) || ' payments' FROM payments GROUP BY order_id HAVING COUNT(*) > 1""",
)
FINAL_ORDER_NOTIFIED = Invariant(
    "final-order-notified",
    "Each recipient of a paid or declined order has been notified, or a dead letter says why not",
    # What was given up is given-up-has-dead-letter's. But somebody must have told the customer of a confirmed one.
    """SELECT o.order_id, 'no ' || t.notice || ' by ' || t.channel FROM settled o JOIN to_be_told t USING (status)
       WHERE (o.wants_sms OR NOT t.by_wish) AND NOT EXISTS (
           SELECT 1 FROM notifications n
           WHERE n.order_id = o.order_id AND n.channel = t.channel AND n.notice = t.notice)
         AND NOT EXISTS (
             SELECT 1 FROM waiting w
             WHERE w.order_id = o.order_id AND w.queue = 'notification_service.' || t.channel)
       UNION ALL
       SELECT o.order_id, 'confirmed, and no receipt was delivered' FROM settled o
       WHERE o.status = 'confirmed' AND NOT EXISTS (
           SELECT 1 FROM notifications n
           WHERE n.order_id = o.order_id AND n.notice = 'receipt' AND n.status = 'delivered')""",
)
NOTIFIED_ONCE = Invariant(
    "notified-once",
    "Nobody is told the same thing twice",
    """SELECT order_id, notice || ' by ' || channel || ' ' || COUNT(*) || ' times' FROM notifications
       GROUP BY order_id, channel, notice HAVING COUNT(*) > 1""",
)
TOLD_WHAT_IS_TRUE = Invariant(
    "told-what-is-true",
    "No receipt or kitchen ticket for an unpaid order, no word of a decline for a paid one",
    """SELECT o.order_id, 'the order is ' || o.status || ', but there is a ' || n.notice || ' by ' || n.channel
       FROM settled o JOIN notifications n USING (order_id)
       WHERE n.notice IN ('receipt', 'kitchen_ticket') AND o.status IN ('placed', 'declined', 'stalled')
          OR n.notice = 'decline' AND o.status != 'declined'""",
)
STALLED_HAS_DEAD_LETTER = Invariant(
    "stalled-has-dead-letter",
    "Every stalled order has a dead letter that says why",
    """SELECT order_id, 'stalled, and there is no dead letter of its charge' FROM settled o
       WHERE status = 'stalled' AND NOT EXISTS (
           SELECT 1 FROM letters l WHERE l.order_id = o.order_id AND l.queue = 'payment_service.charge')
         AND NOT EXISTS (
             SELECT 1 FROM waiting w WHERE w.order_id = o.order_id AND w.queue = 'payment_service.charge')""",
)
GIVEN_UP_HAS_DEAD_LETTER = Invariant(
    "given-up-has-dead-letter",
    "Every notification that was given up has a dead letter that says why",
    """SELECT o.order_id, n.notice || ' by ' || n.channel || ' was given up, and there is no dead letter of it'
       FROM settled o JOIN notifications n USING (order_id)
       WHERE n.status = 'failed' AND NOT EXISTS (
           SELECT 1 FROM letters l
           WHERE l.order_id = o.order_id AND l.queue = 'notification_service.' || n.channel)
         AND NOT EXISTS (
             SELECT 1 FROM waiting w
             WHERE w.order_id = o.order_id AND w.queue = 'notification_service.' || n.channel)""",
)
DEAD_LETTER_HAS_REASON = Invariant(
    "dead-letter-has-reason",
    "Every dead letter says why it is one",
    """SELECT CASE order_id WHEN '' THEN id ELSE order_id END, queue || '.dead holds ' || id || ' without a reason'
       FROM letters WHERE reason = ''""",
)
DEAD_LETTER_BELONGS = Invariant(
    "dead-letter-belongs",
    "Every dead letter belongs to an order that says so, or to none",
    # For the reasons excepted here a service parks a message without giving up the order's work: poison.
    """SELECT order_id, queue || ' has a dead letter of it, but the order is ' || status || ' and says nothing of it'
       FROM letters l JOIN settled o USING (order_id)
       WHERE NOT l.discarded
         AND l.reason NOT IN ('not-for-this-queue', 'undecodable-properties', 'unknown-order', 'delivery-limit', '')
         AND NOT (l.queue = 'payment_service.charge' AND o.status = 'stalled')
         AND NOT EXISTS (
             SELECT 1 FROM notifications n WHERE n.order_id = l.order_id AND n.status = 'failed'
             AND l.queue = 'notification_service.' || n.channel)
         AND NOT EXISTS (SELECT 1 FROM given_up g WHERE g.order_id = l.order_id AND g.queue = l.queue)""",
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

INVARIANTS = (
    ACCEPTED_ORDER_EXISTS,
    BELONGS_TO_AN_ORDER,
    ONE_FINAL_STATE,
    CHARGED_ONCE,
    CAPTURED_EQUALS_TOTAL,
    DECLINED_NOT_CHARGED,
    PAYMENT_AGREES,
    FINAL_ORDER_NOTIFIED,
    NOTIFIED_ONCE,
    TOLD_WHAT_IS_TRUE,
    STALLED_HAS_DEAD_LETTER,
    GIVEN_UP_HAS_DEAD_LETTER,
    DEAD_LETTER_HAS_REASON,
    DEAD_LETTER_BELONGS,
    OUTBOXES_EMPTY,
    QUEUES_EMPTY,
)
IDLE_ONLY = (OUTBOXES_EMPTY, QUEUES_EMPTY)
"""Judged only while no order is in flight; what they find is about a service or a queue."""

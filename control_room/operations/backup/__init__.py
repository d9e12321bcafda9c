"""`order-rail backup` and `order-rail restore`: copies of all databases, and a system that goes on from them.

`take.py` makes a backup, `put_back.py` restores one, and `manifest.py` is what a backup says of itself: the scripts
in `deploy/postgres` write and read the same. `sqlite.py` and `postgresql.py` are the two kinds of databases.

Every database is fixed at one moment before any is copied, the first service's first: so what its state rests on is in
the later ones. What they lack is made again by its sweep, which re-emits the events of what is open, under the same
idempotency keys.
RabbitMQ's messages are in no backup, for the same reason.
"""


class BackupError(Exception):
    """A backup or a restore is not possible; the message says what to do."""

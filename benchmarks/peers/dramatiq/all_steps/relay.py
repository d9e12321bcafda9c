"""The outbox relay: `python -m benchmarks.peers.dramatiq.all_steps.relay`.

Each thread has a connection, so that several messages wait for their confirms at the same time.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.all_steps import RELAY_POLL_SECONDS, outbox_batch
from benchmarks.peers.dramatiq.all_steps.tasks import broker, charge

THREADS = 8


def relay() -> None:
    broker.declare_queue("charge", ensure=True)
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            with outbox_batch() as messages:
                list(pool.map(charge.send, messages))
            if not messages:
                time.sleep(RELAY_POLL_SECONDS)


if __name__ == "__main__":
    relay()

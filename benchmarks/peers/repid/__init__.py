"""FastAPI and Repid over AMQP 1.0: `python -m benchmarks.peers.repid.worker payments`."""

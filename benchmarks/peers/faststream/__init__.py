"""FastAPI and FastStream: `faststream run benchmarks.peers.faststream.payments:app`."""

"""FastAPI and Dramatiq: `dramatiq benchmarks.peers.dramatiq.tasks --queues payments`."""

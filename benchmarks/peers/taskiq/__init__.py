"""FastAPI and TaskIQ over aio-pika: `taskiq worker benchmarks.peers.taskiq.tasks:payments`."""

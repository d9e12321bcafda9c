"""FastAPI and Celery: `celery -A benchmarks.peers.celery.tasks worker -Q payments`."""

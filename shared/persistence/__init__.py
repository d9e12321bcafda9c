"""The database of a service, its batches, and the outbox with its relay."""

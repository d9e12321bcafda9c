"""The database of a service, its group commit, and the outbox with its relay."""

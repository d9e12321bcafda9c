"""Logging, metrics, tracing, and the log of the latest deliveries."""

"""For the people who run and study Order Rail: the launcher, the scenarios, the audit and the dead letters.

It knows the services from outside only: over HTTP, over RabbitMQ, and as processes.
"""

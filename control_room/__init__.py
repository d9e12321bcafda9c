"""For the people who run and study the system: the launcher, the operations and the page.

It knows the services from outside only: over HTTP, over RabbitMQ, and as processes.
"""

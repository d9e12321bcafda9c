"""Greets people by name: an example of a service that takes requests, and does their work behind a queue.

Owns: the greetings. Publishes `greeting.requested.v1` and `greeting.written.v1` to `greetings`.
Consumes: `greeting_service.write`, every greeting that is requested.
"""

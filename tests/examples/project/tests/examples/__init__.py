"""Services to copy, which `order-rail new service` does, and events for their tests."""

from shared.testing.examples import any_event as example_of

__all__ = ["example_of"]

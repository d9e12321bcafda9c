"""What no service that validates the same order in Python can be faster than: the same route, and nothing behind it."""

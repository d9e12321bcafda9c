"""What all tests share: the fixtures of `shared/testing/plugin.py`, such as `broker`, `system` and `crash_points`."""

from shared.observability import logging

pytest_plugins = ["shared.testing.plugin"]

logging.configure("tests", "console")

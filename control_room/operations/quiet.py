"""For commands whose output people and machines read: logs would be in the way, and errors are told in sentences."""

import logging

import structlog


def quiet() -> None:
    """Log nothing in this process but what is critical."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger().setLevel(logging.CRITICAL)

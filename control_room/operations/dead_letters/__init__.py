"""`order-rail dead-letters`: list and show parked messages, redrive them, or discard them on purpose."""

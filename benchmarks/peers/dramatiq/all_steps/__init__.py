"""Dramatiq, all that Order Rail does. It has no exchanges, so that a payment is sent to each of its four actors."""

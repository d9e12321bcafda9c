"""Stripe's key and address as an operator gives them. Without the SDK, which only `stripe://` needs."""

from pathlib import Path

from shared.settings import checked_token
from shared.urls import checked_url

LOOPBACK = ("localhost", "127.0.0.1", "::1")
KINDS = ("sk_", "rk_")


def checked_key(value: str, file: str) -> str:
    """The key, read from the file if that is given. Raises `ValueError`, which shows nothing of it."""
    if bool(value) == bool(file):
        raise ValueError("stripe:// needs STRIPE_API_KEY, or STRIPE_API_KEY_FILE, and not both")
    if file:
        try:
            value = Path(file).read_text().strip()
        except (OSError, UnicodeError) as error:
            raise ValueError(f"STRIPE_API_KEY_FILE can't be read: {error}") from None
    if not value.startswith(KINDS):
        raise ValueError("expected a secret or a restricted key, which begin with sk_ and rk_")
    return checked_token(value)


def checked_base(value: str) -> str:
    """The URL. Raises `ValueError` unless the key is safe on its way there."""
    parts = checked_url(value, ("https", "http"), "https://host:port")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ValueError("expected https://: with http:// the key can be read on its way; http:// is for this machine")
    return value.rstrip("/")

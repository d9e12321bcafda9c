"""URLs that hold passwords: read them, and show them without."""

from collections.abc import Collection
from urllib.parse import SplitResult, unquote, urlsplit

HOW_TO_WRITE = "in a user or password write %40 for @, %2F for /, %3A for :, %23 for #, %3F for ? and %25 for %"


def checked_url(value: str, schemes: tuple[str, ...], expected: str) -> SplitResult:
    """Its parts. Raises `ValueError` with what was expected and nothing of the value: that may hold a password."""
    if value.count("@") > 1:  # different parsers split it in different places, and then show half a password as a host
        raise ValueError(f"expected {expected} with one @ at most; {HOW_TO_WRITE}")
    if any(character.isspace() or not character.isprintable() for character in value):
        raise ValueError(f"expected {expected} without spaces and control characters; percent-encode them")
    try:
        parts = urlsplit(value)
        # An @ behind the host means that what seems to be the host is the beginning of a password with a raw / in it.
        if (
            parts.scheme in schemes
            and parts.hostname
            and parts.port != 0
            and value.count("@") == parts.netloc.count("@")
        ):
            return parts
    except ValueError:  # brackets without an address between them, a port that is no number
        pass
    raise ValueError(f"expected {expected}; {HOW_TO_WRITE}" if "@" in value else f"expected {expected}")


def parameters(query: str, known: Collection[str]) -> dict[str, str]:
    """A query's parameters, decoded; `+` stands for itself. Raises ValueError for one that is unknown, empty or twice.

    An unknown one is not shown: it may be what is left of a password with a raw `?` in it.
    """
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    found = {unquote(name): unquote(value) for name, _, value in pairs}
    if len(found) < len(pairs) or not all(name in known and value for name, value in found.items()):
        raise ValueError(f"after the ? there may be {', '.join(f'{name}=...' for name in known)}, joined by &")
    return found


def without_credentials(url: str) -> str:
    """The URL as it may be shown: no user, no password, and no query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

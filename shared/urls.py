"""Reading URLs that may hold passwords, and showing them without."""

import re
from collections.abc import Callable, Collection
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

Read = TypeVar("Read")

HOW_TO_WRITE = "in a user or password write %40 for @, %2F for /, %3A for :, %23 for #, %3F for ? and %25 for %"


def checked_url(value: str, schemes: tuple[str, ...], expected: str) -> SplitResult:
    """The parts of a URL. Raises `ValueError` that shows nothing of the value, since it may hold a password."""
    if value.count("@") > 1:  # URL parsers differ about these, and may show half of a password as the host
        raise ValueError(f"expected {expected} with one @ at most; {HOW_TO_WRITE}")
    if any(character.isspace() or not character.isprintable() for character in value):
        raise ValueError(f"expected {expected} without spaces and control characters; percent-encode them")
    try:
        parts = urlsplit(value)
        # An @ after the host means that a password has an unescaped / and its beginning was read as the host.
        is_split_right = value.count("@") == parts.netloc.count("@")
        if parts.scheme in schemes and parts.hostname and parts.port != 0 and is_split_right:
            return parts
    except ValueError:  # brackets without an address in them, or a port that is no number
        pass
    raise ValueError(f"expected {expected}; {HOW_TO_WRITE}" if "@" in value else f"expected {expected}")


def several(value: str, schemes: Collection[str]) -> list[str]:
    """The URLs of a list separated by commas. A comma without a scheme behind it is part of a URL."""
    return re.split(rf",\s*(?=(?:{'|'.join(schemes)})://)", value, flags=re.IGNORECASE)


def read_each(value: str, schemes: Collection[str], read: Callable[[str], Read]) -> list[Read]:
    """What `read` makes of each URL of a list. Raises its ValueError, which then says which URL it is about."""
    urls, results = several(value, schemes), []
    for number, url in enumerate(urls, 1):
        try:
            results.append(read(url))
            _check_host(url)
        except ValueError as error:
            raise ValueError(f"URL {number} of {len(urls)}: {error}" if len(urls) > 1 else str(error)) from None
    return results


def _check_host(url: str) -> None:
    if "," in (urlsplit(url).hostname or ""):
        raise ValueError("expected a host without a comma; write each of several URLs whole, with its scheme")


def public_url(value: str) -> str:
    """The address of a page that everybody may see, without credentials and a slash at its end; empty if it is.

    Raises `ValueError` as `checked_url` does.
    """
    if value:
        checked_url(value, ("http", "https"), "http://host:port")
    return without_credentials(value).rstrip("/")


def parameters(query: str, known: Collection[str]) -> dict[str, str]:
    """A query's parameters, decoded; `+` stands for itself. Raises ValueError if one is unknown, empty or repeated.

    An unknown name is not shown: it may be the end of a password with an unescaped `?`.
    """
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    values = {unquote(name): unquote(value) for name, _, value in pairs}
    if len(values) < len(pairs) or not all(name in known and value for name, value in values.items()):
        raise ValueError(f"after the ? there may be {', '.join(f'{name}=...' for name in known)}, joined by &")
    return values


def without_credentials(url: str) -> str:
    """The URL as it may be shown: no user, no password, no query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

"""Email addresses: only those that every mail server and every mail program reads in the same way."""

import re

MAX_LENGTH = 254
MAX_LOCAL_LENGTH = 64

_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 5321 without quoted strings and address literals, and with at least one dot in the domain.
PATTERN = rf"^(?!.*=\?)(?![^@]{{{MAX_LOCAL_LENGTH + 1}}}){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+$"


def checked_mailbox(address: str) -> str:
    """The address. Raises `ValueError` with the reason if it is not accepted."""
    if len(address) > MAX_LENGTH:
        raise ValueError(f"expected an email address with at most {MAX_LENGTH} characters")
    local, _, domain = address.partition("@")
    if other := next((character for character in address if character > "\x7f"), None):
        raise ValueError(_not_supported(other, local, domain))
    if "=?" in address:
        raise ValueError(
            "expected an email address without '=?': that begins an encoded word, which mail programs read as another "
            "text, so that the mail could go to somebody else"
        )
    if len(local) > MAX_LOCAL_LENGTH:
        raise ValueError(f"expected an email address with at most {MAX_LOCAL_LENGTH} characters before the @")
    if local.startswith(".") or local.endswith(".") or ".." in local:
        raise ValueError("expected an email address without dots at the ends of the part before the @, or in a row")
    if not re.fullmatch(PATTERN, address):
        raise ValueError("expected an email address such as ada@example.com")
    return address


def _not_supported(character: str, local: str, domain: str) -> str:
    """What to do about a character such as an umlaut, which only some mail servers take."""
    what = f"{character!r} is not supported in an email address"
    if not local.isascii():
        return f"{what}: before the @ only A to Z, a to z, 0 to 9 and signs such as . - _ + are"
    try:
        return f"{what}; write the domain as {domain.encode('idna').decode()}"
    except UnicodeError:
        return f"{what}; write the domain in its ASCII form, which begins with xn--"

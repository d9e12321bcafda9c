"""A letter as a mail (RFC 5322): its headers, written by the email package from parts that are not parsed again."""

import hashlib
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from notification_service.notifications import Letter
from shared.mailbox import checked_mailbox
from shared.messaging.retry import PermanentError

SENDER = Address("Order Rail", "orders", "order-rail.example")

# Seven bits are what every server takes. A header is not folded: the email package would encode a long address, and
# an encoded address is no address any more. None of ours comes near the 998 characters that a line may have.
_POLICY = SMTP.clone(cte_type="7bit")
_FLAT = _POLICY.clone(max_line_length=998)


def recipient_of(letter: Letter) -> str:
    """The address for the envelope, as it stands. Raises `PermanentError` for one that is read in different ways.

    The order service lets none of these in; an event may be older than that, or somebody else's.
    """
    try:
        return checked_mailbox(letter.recipient)
    except ValueError as error:
        raise PermanentError("no-mailbox", f"the order's email address can't be mailed to: {error}") from None


def mail_of(letter: Letter, now: datetime | None = None) -> bytes:
    """The whole mail with CRLF at the end of each line. Raises `PermanentError` as `recipient_of`."""
    username, _, domain = recipient_of(letter).rpartition("@")
    mail = EmailMessage(_POLICY)
    mail["From"] = SENDER
    mail["To"] = Address(username=username, domain=domain)
    mail["Subject"] = letter.subject
    mail["Date"] = now or datetime.now(UTC)
    # A mail can't be taken back or sent idempotently. A customer's mail program can tell by this that two are the same.
    mail["Message-ID"] = f"<{hashlib.sha256(letter.idempotency_key.encode()).hexdigest()[:32]}@order-rail.example>"
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's program answers it (RFC 3834)
    mail["X-Order-Id"] = letter.order_id
    is_plain = letter.text.isascii() and letter.text.replace("\n", "").isprintable()
    mail.set_content(letter.text, cte=None if is_plain else "quoted-printable")
    return mail.as_bytes(policy=_FLAT)

"""A notice as a mail (RFC 5322). The email package writes the headers from parts; no address is parsed again."""

import hashlib
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from notification_service.notifications import Notice
from notification_service.templates import Words
from shared.mailbox import checked_mailbox
from shared.messaging.retry import PermanentError

SENDER = Address("Order Rail", "orders", "order-rail.example")

# Every server takes 7-bit text. Headers are not folded: the email package would encode a long address, and servers do
# not read an encoded address. All headers here are far shorter than the 998 characters that a line may have.
_POLICY = SMTP.clone(cte_type="7bit")
_FLAT = _POLICY.clone(max_line_length=998)


def mail_of(notice: Notice, words: Words) -> tuple[str, bytes]:
    """The address for the envelope, and the whole mail with CRLF line ends.

    Raises `PermanentError` for an address that programs read in different ways. The order service refuses such
    addresses, but an event may be older than that check or come from elsewhere.
    """
    try:
        recipient = checked_mailbox(notice.recipient)
    except ValueError as error:
        raise PermanentError("no-mailbox", f"the order's email address can't be mailed to: {error}") from None
    username, _, domain = recipient.rpartition("@")
    mail = EmailMessage(_POLICY)
    mail["From"] = SENDER
    mail["To"] = Address(username=username, domain=domain)
    mail["Subject"] = words.subject
    mail["Date"] = datetime.now(UTC)
    # SMTP has no idempotency key. A repeated mail has the same id, so that a mail program can show it once.
    mail["Message-ID"] = f"<{hashlib.sha256(notice.idempotency_key.encode()).hexdigest()[:32]}@order-rail.example>"
    mail["Auto-Submitted"] = "auto-generated"  # asks mail programs for no automatic reply (RFC 3834)
    mail["X-Order-Id"] = notice.order_id
    is_plain = words.text.isascii() and words.text.replace("\n", "").isprintable()
    mail.set_content(words.text, cte=None if is_plain else "quoted-printable")
    if words.html:
        mail.add_alternative(words.html, subtype="html", cte="quoted-printable")
    return recipient, mail.as_bytes(policy=_FLAT)

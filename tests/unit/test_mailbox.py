"""Email addresses: accepted only if every program that reads them later reads the same."""

import re
from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notification_service.mail import mail_of
from notification_service.notifications import Notice
from notification_service.templates import Words
from shared.mailbox import MAX_LENGTH, PATTERN, checked_mailbox
from shared.messaging.retry import PermanentError
from tests import examples

GOOD = [
    "ada@example.com",
    "o'brien@example.com",
    "a.b+c=d@x.example.com",
    "{}|~!#$%&*/?^_`-@example.com",
    "1@1.2.de",
    "a" * 64 + "@example.com",
    "ada@xn--bcher-kva.example",
    "=a?b=@example.com",
]
BAD = [
    ("=?utf-8?q?mallory?=@example.com", "encoded word"),
    ("=?UTF-8?B?bWFsbG9yeQ==?=@example.com", "encoded word"),
    ("a=?utf-8?q?x?=b@example.com", "encoded word"),
    ("a=?@example.com", "encoded word"),
    ("a" * 65 + "@example.com", "64 characters"),
    (".a@example.com", "dots"),
    ("a.@example.com", "dots"),
    ("a..b@example.com", "dots"),
    ("@example.com", "such as"),
    ("ada@example", "such as"),
    ("ada@example.com.", "such as"),
    ("ada@-example.com", "such as"),
    ("ada@" + "a" * 64 + ".com", "such as"),
    ("ada@" + ".".join(["a" * 60] * 5), "at most 254 characters"),
    ("ada@[127.0.0.1]", "such as"),
    ("(mallory)ada@example.com", "such as"),
    ("ada(mallory)@example.com", "such as"),
    ('"ada"@example.com', "such as"),
    ("Ada <ada@example.com>", "such as"),
    ("<ada@example.com>", "such as"),
    ("ada@example.com,mallory@example.com", "such as"),
    ("ada@example.com\nBcc: mallory@example.com", "such as"),
    ("ada@example.com\n", "such as"),
    ("ada\x00@example.com", "such as"),
    ("ad\u00e4@example.com", "'\u00e4' is not supported in an email address: before the @ only"),
    ("ada@b\u00fccher.example", "'\u00fc' is not supported .*; write the domain as xn--bcher-kva.example"),
    ("ada@\u00fc..example", "which begins with xn--"),
    ("\u0430da@example.com", "'\u0430' is not supported"),
    ("", "such as"),
]


def mail_to(recipient: str, text: str = "Hello.\n", html: str = "") -> tuple[str, bytes]:
    order = examples.order_summary(email=recipient)
    notice = Notice("019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55", "email", "receipt", recipient, order, order.total)
    return mail_of(notice, Words("Your order", text, html))


@pytest.mark.parametrize("address", GOOD)
def test_an_unambiguous_address_is_accepted(address: str) -> None:
    assert checked_mailbox(address) == address


@pytest.mark.parametrize(("address", "why"), BAD)
def test_an_ambiguous_address_is_refused_with_the_reason(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked_mailbox(address)
    with pytest.raises(PermanentError, match=why) as caught:
        mail_to(address)
    assert caught.value.reason == "no-mailbox"
    assert not re.fullmatch(PATTERN, address) or len(address) > MAX_LENGTH


@settings(deadline=None)
@given(st.from_regex(PATTERN, fullmatch=True).filter(lambda address: len(address) <= MAX_LENGTH))
def test_envelope_and_header_hold_every_accepted_address_unchanged(address: str) -> None:
    assert checked_mailbox(address) == address
    recipient, content = mail_to(address)
    mail = message_from_bytes(content, policy=policy.default)

    assert recipient == address
    assert [each.addr_spec for each in mail["To"].addresses] == [address]
    assert f"\r\nTo: {address}\r\n".encode() in content


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.sampled_from(["", "<p>Grüße</p>"]))
def test_no_text_breaks_out_of_the_body(text: str, html: str) -> None:
    _, raw = mail_to("ada@example.com", text, html)

    assert raw.count(b"\r\n\r\n", 0, raw.index(b"\r\n\r\n") + 4) == 1
    assert raw.isascii()
    assert b"\0" not in raw
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998

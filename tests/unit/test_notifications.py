"""The notices of each channel, word for word, and which of them are out of date after which."""

from itertools import permutations
from pathlib import Path
from shutil import copytree
from typing import Any, get_args

import pytest

from notification_service.notifications import KINDS, PaymentOutcome, amount, later_keys, notice_of, turn_of
from notification_service.templates import FOLDER, Templates, Words
from shared.events import ChannelName, Money, NoticeKind
from shared.messaging.retry import PermanentError
from tests import examples

ORDER_ID = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"
EVERYWHERE: dict[str, Any] = {"phone": examples.PHONE, "push": "ada-s_phone"}
PAID = examples.payment_succeeded(ORDER_ID, **EVERYWHERE)
DECLINED = examples.payment_declined(ORDER_ID, **EVERYWHERE)
VOIDED = examples.payment_voided(ORDER_ID, **EVERYWHERE)
REFUNDED = examples.payment_refunded(ORDER_ID, **EVERYWHERE)

RECEIPT = """\
Thank you for your order 019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55.

  2 x Pizza Margherita                    19.00 EUR
  1 x Cola 0.33 l                          3.00 EUR

Total                                     22.00 EUR

It is paid, and the kitchen knows.
"""

DECLINE = """\
Your order 019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55 over 22.00 EUR could not be paid: card_declined.
Nothing was charged. You are welcome to order again with another means of payment.
"""

TICKET = """\
  2 x Pizza Margherita
  1 x Cola 0.33 l
"""


CANCELLATION = """\
Your order 019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55 over 22.00 EUR is cancelled.
Nothing was charged, and nothing will be.
"""

REFUND = """\
Your order 019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55 is cancelled.
We have returned 22.00 EUR to your means of payment. It may take some days until you see it there.
"""

STOP = f"Cancelled, do not prepare:\n{TICKET}"

SMS_PAID = "Order confirmed, 22.00 EUR paid. Thank you!"
SMS_DECLINED = "Your payment of 22.00 EUR was declined. Nothing was charged."
SMS_VOIDED = "Your order over 22.00 EUR is cancelled. Nothing was charged."
NOTICES: list[tuple[PaymentOutcome, ChannelName, NoticeKind, str, str, str]] = [
    (PAID, "email", "receipt", examples.EMAIL, "Your order is confirmed (22.00 EUR)", RECEIPT),
    (DECLINED, "email", "decline", examples.EMAIL, "Your payment was declined", DECLINE),
    (VOIDED, "email", "cancellation", examples.EMAIL, "Your order is cancelled", CANCELLATION),
    (REFUNDED, "email", "refund", examples.EMAIL, "Your order is cancelled, and 22.00 EUR go back to you", REFUND),
    (PAID, "sms", "receipt", examples.PHONE, "", SMS_PAID),
    (DECLINED, "sms", "decline", examples.PHONE, "", SMS_DECLINED),
    (VOIDED, "sms", "cancellation", examples.PHONE, "", SMS_VOIDED),
    (REFUNDED, "sms", "refund", examples.PHONE, "", "Your order is cancelled, and 22.00 EUR go back to you."),
    (PAID, "push", "receipt", "ada-s_phone", "Order confirmed", "22.00 EUR paid. Thank you!\n"),
    (VOIDED, "push", "cancellation", "ada-s_phone", "Order cancelled", f"{SMS_VOIDED}\n"),
    (PAID, "restaurant", "kitchen_ticket", "kitchen", f"Order {ORDER_ID}", TICKET),
    (
        REFUNDED,
        "restaurant",
        "kitchen_stop",
        "kitchen",
        f"Stop order {ORDER_ID}",
        f"Cancelled, do not prepare:\n{TICKET}",
    ),
]


@pytest.fixture(scope="module")
def templates() -> Templates:
    return Templates()


@pytest.mark.parametrize(("event", "channel", "kind", "recipient", "subject", "text"), NOTICES)
def test_a_channel_makes_its_notice_of_an_event(
    event: PaymentOutcome,
    channel: ChannelName,
    kind: str,
    recipient: str,
    subject: str,
    text: str,
    templates: Templates,
) -> None:
    notice = notice_of(channel, event)
    assert notice is not None
    assert (notice.kind, notice.recipient) == (kind, recipient)
    words = templates.words(notice)
    assert (words.subject, words.text) == (subject, text)
    assert bool(words.html) == (channel == "email")


def test_without_an_address_there_is_no_notice_and_without_payment_no_ticket() -> None:
    for make in (
        examples.payment_succeeded,
        examples.payment_declined,
        examples.payment_voided,
        examples.payment_refunded,
    ):
        assert notice_of("sms", make()) is notice_of("push", make()) is None
    assert notice_of("restaurant", DECLINED) is notice_of("restaurant", VOIDED) is None


def test_only_notices_of_the_same_event_and_channel_share_their_key() -> None:
    keys = {notice.idempotency_key for each in NOTICES if (notice := notice_of(each[1], each[0]))}

    assert len(keys) == len(NOTICES)
    repeated = notice_of("email", examples.payment_succeeded(ORDER_ID))
    assert repeated is not None
    assert repeated.idempotency_key == f"{ORDER_ID}/email/receipt" in keys


def test_later_notices_make_earlier_ones_out_of_date_and_never_the_other_way_round() -> None:
    assert later_keys("1/email/receipt") == ["1/email/refund", "1/email/cancellation"]
    assert later_keys("1/sms/cancellation") == ["1/sms/refund"]
    assert later_keys("1/restaurant/kitchen_ticket") == ["1/restaurant/kitchen_stop"]
    assert later_keys("1/email/refund") == []
    for one, other in permutations([f"1/email/{kind}" for kind in get_args(NoticeKind)], 2):
        assert not (one in later_keys(other) and other in later_keys(one))
    assert {turn_of(f"1/{channel}/receipt") for channel in KINDS} == {f"1/{channel}" for channel in KINDS}


def test_html_escapes_what_comes_from_outside_and_text_does_not(templates: Templates) -> None:
    evil = "<script>alert('Tiramisù & more')</script>\n"
    item = PAID.data.order.items[0].model_copy(update={"name": evil})
    order = PAID.data.order.model_copy(update={"items": (item,)})
    notice = notice_of("email", PAID.model_copy(update={"data": PAID.data.model_copy(update={"order": order})}))
    assert notice is not None

    words = templates.words(notice)

    assert "<script>" not in words.html
    assert "&lt;script&gt;" in words.html
    assert evil.strip() in words.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(copytree(FOLDER, tmp_path / "templates"))


def test_templates_of_another_folder_are_used_and_a_subject_stays_one_line(folder: Path) -> None:
    (folder / "email/decline.txt").write_text("Subject: No, {{ reason }}\n\nNo money, {{ order_id }}: <&>\n")
    sad = DECLINED.data.model_copy(update={"reason": "a\r\nBcc: mallory@example.com"})
    notice = notice_of("email", DECLINED.model_copy(update={"data": sad}))
    assert notice is not None

    words = Templates(str(folder)).words(notice)

    assert words.subject == "No, a"
    assert words.text.endswith(f"No money, {ORDER_ID}: <&>\n")
    assert Words("x", "y").html == ""


BROKEN = {
    "email/receipt.html": (None, "email/receipt.html is missing in"),
    "sms/refund.txt": ("{{ no_such_value }}", "sms/refund.txt in .*, line 1: 'no_such_value' is undefined"),
    "push/decline.txt": ("Subject: x\n\n{% if x %}", "push/decline.txt in .*, line 3: .*end of template"),
    "email/layout.html": ("{% block title %}{% endblock %}\n\n{{ total / 2 }}", "email/receipt.html in .*, line 3"),
    "restaurant/kitchen_stop.txt": ("\n", "restaurant/kitchen_stop.txt in .* has no text"),
    "email/refund.txt": ("Hello {{ amount }}", "email/refund.txt in .* has no first line such as `Subject:"),
}


@pytest.mark.parametrize(("file", "content", "error"), [(file, *rest) for file, rest in BROKEN.items()])
def test_a_broken_template_is_named_when_the_folder_is_read(
    folder: Path, file: str, content: str | None, error: str
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(ValueError, match=error):
        Templates(str(folder))


def test_a_file_that_is_no_text_and_a_folder_that_is_none_are_named(folder: Path) -> None:
    (folder / "sms/receipt.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"sms/receipt.txt in .*utf-8"):
        Templates(str(folder))
    with pytest.raises(ValueError, match="expected a folder with templates, and /no/such is none"):
        Templates("/no/such")


def test_a_template_that_fails_with_the_values_of_one_order_parks_that_notice_alone(folder: Path) -> None:
    (folder / "email/receipt.txt").write_text("Subject: x\n\n{{ 1 / (items | length - 2) }}\n")
    notice = notice_of("email", PAID)
    assert notice is not None
    with pytest.raises(PermanentError, match=r"email/receipt.txt in .*, line 3: division by zero") as caught:
        Templates(str(folder)).words(notice)
    assert caught.value.reason == "template-failed"


@pytest.mark.parametrize(
    ("amount_minor", "text"),
    [(0, "0.00 EUR"), (5, "0.05 EUR"), (99, "0.99 EUR"), (100, "1.00 EUR"), (10**12, "10000000000.00 EUR")],
)
def test_an_amount_is_written_with_two_decimals(amount_minor: int, text: str) -> None:
    assert amount(Money(amount_minor=amount_minor, currency="EUR")) == text


def test_the_largest_legal_line_can_be_written(templates: Templates) -> None:
    """Quantity and price have bounds of their own; their product has none."""
    event = examples.payment_succeeded()
    line = event.data.order.items[0].model_copy(update={"quantity": 10**6, "unit_price": examples.euros(10**12)})
    order = event.data.order.model_copy(update={"items": (line,)})

    notice = notice_of("email", event.model_copy(update={"data": event.data.model_copy(update={"order": order})}))

    assert notice is not None
    assert "10000000000000000.00 EUR" in templates.words(notice).text

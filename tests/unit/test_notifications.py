"""The notices of each channel, word for word."""

import pytest

from notification_service.notifications import WRITERS, Notice, PaymentOutcome, amount, email, restaurant, sms
from shared.events import Money
from tests import examples

ORDER_ID = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"
PAID = examples.payment_succeeded(ORDER_ID, phone=examples.PHONE)
DECLINED = examples.payment_declined(ORDER_ID, phone=examples.PHONE)

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

SMS_PAID = "Order confirmed, 22.00 EUR paid. Thank you!"
SMS_DECLINED = "Your payment of 22.00 EUR was declined. Nothing was charged."
NOTICES = [
    (PAID, Notice(ORDER_ID, "email", "receipt", examples.EMAIL, "Your order is confirmed (22.00 EUR)", RECEIPT)),
    (DECLINED, Notice(ORDER_ID, "email", "decline", examples.EMAIL, "Your payment was declined", DECLINE)),
    (PAID, Notice(ORDER_ID, "sms", "receipt", examples.PHONE, "", SMS_PAID)),
    (DECLINED, Notice(ORDER_ID, "sms", "decline", examples.PHONE, "", SMS_DECLINED)),
    (PAID, Notice(ORDER_ID, "restaurant", "kitchen_ticket", "kitchen", f"Order {ORDER_ID}", TICKET)),
]


@pytest.mark.parametrize(("event", "notice"), NOTICES)
def test_a_channel_writes_its_notice_of_an_event(event: PaymentOutcome, notice: Notice) -> None:
    assert WRITERS[notice.channel](event) == notice


def test_without_a_phone_number_there_is_no_text_message_and_without_payment_no_ticket() -> None:
    assert sms(examples.payment_succeeded()) is sms(examples.payment_declined()) is restaurant(DECLINED) is None


def test_only_notices_of_the_same_event_and_channel_share_their_key() -> None:
    keys = {notice.idempotency_key for _, notice in NOTICES}
    repeated = email(examples.payment_succeeded(ORDER_ID))

    assert len(keys) == len(NOTICES)
    assert repeated is not None
    assert repeated.idempotency_key == f"{ORDER_ID}/email/receipt" in keys


@pytest.mark.parametrize(
    ("amount_minor", "text"),
    [(0, "0.00 EUR"), (5, "0.05 EUR"), (99, "0.99 EUR"), (100, "1.00 EUR"), (10**12, "10000000000.00 EUR")],
)
def test_an_amount_is_written_with_two_decimals(amount_minor: int, text: str) -> None:
    assert amount(Money(amount_minor=amount_minor, currency="EUR")) == text


def test_the_largest_legal_line_can_be_written() -> None:
    """Quantity and price have bounds of their own; their product has none."""
    event = examples.payment_succeeded()
    line = event.data.order.items[0].model_copy(update={"quantity": 10**6, "unit_price": examples.euros(10**12)})
    order = event.data.order.model_copy(update={"items": (line,)})

    notice = email(event.model_copy(update={"data": event.data.model_copy(update={"order": order})}))

    assert notice is not None
    assert "10000000000000000.00 EUR" in notice.text

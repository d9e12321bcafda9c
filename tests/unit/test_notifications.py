"""Who is told what: the letters, word for word."""

import pytest

from notification_service.notifications import Notice, amount, email, restaurant, sms
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


def test_a_paid_order_gets_a_receipt_by_email() -> None:
    assert email(PAID) == Notice(
        ORDER_ID, "email", "receipt", "ada@example.com", "Your order is confirmed (22.00 EUR)", RECEIPT
    )


def test_a_declined_payment_is_told_by_email() -> None:
    assert email(DECLINED) == Notice(
        ORDER_ID, "email", "decline", "ada@example.com", "Your payment was declined", DECLINE
    )


def test_a_text_message_says_it_in_one_line() -> None:
    paid, declined = sms(PAID), sms(DECLINED)

    assert paid == Notice(
        ORDER_ID, "sms", "receipt", "+4915112345678", "", "Order confirmed, 22.00 EUR paid. Thank you!"
    )
    assert declined == Notice(
        ORDER_ID, "sms", "decline", "+4915112345678", "",
        "Your payment of 22.00 EUR was declined. Nothing was charged.",
    )  # fmt: skip


def test_who_left_no_number_gets_no_text_message() -> None:
    assert sms(examples.payment_succeeded()) is None
    assert sms(examples.payment_declined()) is None


def test_the_kitchen_gets_a_ticket_for_a_paid_order_only() -> None:
    assert restaurant(PAID) == Notice(ORDER_ID, "restaurant", "kitchen_ticket", "kitchen", f"Order {ORDER_ID}", TICKET)
    assert restaurant(DECLINED) is None


def test_letters_of_the_same_event_share_their_key_and_others_do_not() -> None:
    letters = [write(event) for write in (email, sms, restaurant) for event in (PAID, DECLINED)]
    keys = [letter.idempotency_key for letter in letters if letter is not None]

    assert len(keys) == len(set(keys)) == 5
    again = email(examples.payment_succeeded(ORDER_ID))
    assert again is not None
    assert again.idempotency_key == keys[0] == f"{ORDER_ID}/email/receipt"


@pytest.mark.parametrize(
    ("amount_minor", "text"),
    [(0, "0.00 EUR"), (5, "0.05 EUR"), (99, "0.99 EUR"), (100, "1.00 EUR"), (10**12, "10000000000.00 EUR")],
)
def test_an_amount_is_written_with_two_decimals(amount_minor: int, text: str) -> None:
    assert amount(Money(amount_minor=amount_minor, currency="EUR")) == text


def test_the_largest_legal_line_can_be_written() -> None:
    """An event may hold any quantity and any price, each within its own bounds: their product has none."""
    event = examples.payment_succeeded()
    line = event.data.order.items[0].model_copy(update={"quantity": 10**6, "unit_price": examples.euros(10**12)})
    order = event.data.order.model_copy(update={"items": (line,)})

    letter = email(event.model_copy(update={"data": event.data.model_copy(update={"order": order})}))

    assert letter is not None
    assert "10000000000000000.00 EUR" in letter.text

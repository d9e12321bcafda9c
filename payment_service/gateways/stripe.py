"""Stripe as the payment gateway, through its own SDK: an adapter for the port `Gateway`.

A charge is a PaymentIntent that is created and confirmed in one call, under the order's id as idempotency key. Stripe
keeps a key's answer, a saved failure too, for at least a day. After that the same key would charge again, so that the
order is looked for first.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import stripe
from stripe import StripeClient, StripeError

from payment_service.payments import Charged, Declined, Refunded
from shared.events import Money
from shared.http.audit import Record, Source
from shared.ids import seconds_since
from shared.messaging.retry import AccessDenied, NoAnswer, PermanentError, TransientError, Unavailable

TEST_METHODS = {
    "tok_visa": "pm_card_visa",
    "tok_declined": "pm_card_visa_chargeDeclined",
    "tok_refund_fails": "pm_card_refundFail",
}
"""The tokens that Stripe's test mode has an own payment method for. Every other token is sent as it is (`pm_...`)."""

KEY_KEPT_SECONDS = 23 * 3600.0
"""Stripe forgets an idempotency key after a day at the earliest."""

CLOCKS_DIFFER_SECONDS = 3600.0
CONNECT_SECONDS = 5.0
PAGE = 100
"""Objects in a list; Stripe allows no more."""

FOLLOWING = {"charges": "refunds", "refunds": ""}
"""The lists that make up the ledger, each with the one after it."""

FAILED = ("failed", "canceled")
ERROR_LENGTH = 300
WHAT_TO_DO = (
    "Put a key that may write PaymentIntents and Refunds and read Charges into STRIPE_API_KEY, or into the file that "
    "STRIPE_API_KEY_FILE names, and start the service again; until then orders wait"
)

stripe.enable_telemetry = False  # it would also write a file into the home directory


class StripeGateway:
    """`connections`: how many at once. `answer_seconds`: the limit for one answer."""

    def __init__(self, key: str, base: str, connections: int, answer_seconds: float) -> None:
        self._key, self._base = key, base
        self._limits = httpx.Limits(max_connections=connections)
        self._timeout = httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS)
        self._api: Any  # typed by the SDK as far as its parameters, which differ with each of its versions

    async def start(self) -> None:
        """It does not connect yet. Here, since its connections belong to the event loop."""
        self._http = _Http(httpx.AsyncClient(limits=self._limits, timeout=self._timeout))
        addresses: Any = {"api": self._base} if self._base else {}
        # Its own retries would hide how long a charge takes, and repeat what is not to be repeated.
        self._api = StripeClient(self._key, base_addresses=addresses, http_client=self._http, max_network_retries=0).v1

    async def stop(self) -> None:
        await self._http.close_async()

    def problem(self) -> str | None:
        """None: an outside system does not make the service unready."""
        return None

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """As `Gateway.charge`; raises `PermanentError` for a key that was used for another charge."""
        key, age_seconds = idempotency_key, seconds_since(idempotency_key)
        if (age_seconds is None or age_seconds > KEY_KEPT_SECONDS) and (found := await self._listed(key)):
            return found
        try:
            intent = await self._api.payment_intents.create_async(
                {
                    "amount": amount.amount_minor,
                    "currency": amount.currency.lower(),
                    "payment_method": TEST_METHODS.get(token, token),
                    "payment_method_types": ["card"],
                    "confirm": True,
                    "error_on_requires_action": True,  # the customer has left and can't be asked
                    "metadata": {"order_id": key},
                },
                {"idempotency_key": key},
            )
        except stripe.CardError as error:
            return Declined(error.code or "card_declined")
        except StripeError as error:
            if error.code == "resource_missing" or error.http_status == httpx.codes.NOT_FOUND:
                return Declined("unknown_payment_token")  # nothing else of a charge can be missing
            return await self._after_failure(error, key)
        if intent.status != "succeeded":  # `processing`; a later call gets the same answer for this key
            intent = await self._ask(self._api.payment_intents.retrieve_async(intent.id))
        if intent.status != "succeeded":
            raise TransientError(f"Stripe's {intent.id} is {intent.status}")
        return Charged(intent.id)

    async def _after_failure(self, error: StripeError, key: str) -> Charged:
        """The charge, if there is one in spite of a failure that Stripe repeats for this key."""
        if _is_saved(error) and (found := await self._listed(key)):
            return found
        raise translated(error) from error

    async def find(self, idempotency_key: str) -> Charged | None:
        """As `Gateway.find`. First the key is used up, by an intent that nobody confirms.

        So a charge that is under way shows as a conflict, and none that is sent later can succeed.
        """
        unconfirmed = {"amount": 100, "currency": "eur", "metadata": {"order_id": idempotency_key}}
        try:
            await self._api.payment_intents.create_async(unconfirmed, {"idempotency_key": idempotency_key})
        except stripe.IdempotencyError:
            pass  # it was used for a charge
        except StripeError as error:
            raise translated(error) from error
        return await self._listed(idempotency_key)

    async def _listed(self, key: str) -> Charged | None:
        """The charge of a key in the list since the order. Stripe's search would lag behind it by a minute."""
        age_seconds = seconds_since(key)
        oldest = 0.0 if age_seconds is None else time.time() - age_seconds - CLOCKS_DIFFER_SECONDS
        filters: Any = {"created": {"gt": int(oldest)}} if oldest else {}
        async for page in self.pages("charges", **filters):
            for charge in page:
                if charge.status == "succeeded" and _order_of(charge) == key:
                    return Charged(charge.payment_intent.id)
        return None

    async def refund(self, idempotency_key: str, charge: Charged, amount: Money) -> Refunded:
        """As `Gateway.refund`. What was refunded before, by a person perhaps, counts: there is no more to give back."""
        intent, key = charge.charge_id, idempotency_key
        listed = await self._ask(self._api.refunds.list_async({"payment_intent": intent, "limit": PAGE}))
        valid = [each for each in listed.data if each.status not in FAILED]
        left = amount.amount_minor - sum(each.amount for each in valid)
        if left <= 0:
            return Refunded(intent, valid[0].id)
        refund = await self._ask(
            self._api.refunds.create_async(
                {"payment_intent": intent, "amount": left, "metadata": {"order_id": key.partition("/")[0]}},
                # Under the same key Stripe would only repeat its answer about a refund that failed later.
                {"idempotency_key": f"{key}/{len(listed.data)}" if listed.data else key},
            )
        )
        if refund.status in FAILED:
            raise TransientError(f"Stripe's {refund.id} has {refund.status}")
        return Refunded(intent, refund.id)

    routers = ()
    prunables = ()

    @property
    def audit_source(self) -> Source:
        """As `Gateway.audit_source`: Stripe's charges, then its refunds."""
        return _Ledger(self)

    async def pages(self, objects: str, **filters: Any) -> AsyncIterator[Sequence[Any]]:
        """A list of Stripe's, page by page, newest first."""
        params, has_more = {"limit": PAGE, "expand": ["data.payment_intent"], **filters}, True
        while has_more:
            listed = await self._ask(getattr(self._api, objects).list_async(params))
            if listed.data:
                params["starting_after"] = listed.data[-1].id
                yield listed.data
            has_more = listed.has_more

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except StripeError as error:
            raise translated(error) from error


class _Span(NamedTuple):
    """A part of one of Stripe's lists: what was made from `begin` (seconds since 1970) on, for so many seconds."""

    objects: str = "charges"
    begin: int = 1_293_840_000  # 2011, when Stripe began
    seconds: int = 2**30


class _Ledger:
    """Stripe's charges and refunds that carry an order's id, for `GET /audit`, each oldest first.

    Stripe lists the newest first. So it is asked for one span of time after the other, none longer than a page or two.
    """

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway

    async def page(self, after: _Span | None) -> Sequence[Record]:
        span = after or _Span()
        while span.objects:
            made, span = await self._read(span)
            if rows := [row for each in reversed(made) if (row := _audit_row(each))]:
                return [(span, row) for row in rows]
        return []

    async def _read(self, span: _Span) -> tuple[Sequence[Any], _Span]:
        """What was made in it, newest first, and the span to read next: half of it if that is too much at once."""
        end = span.begin + span.seconds
        is_last = end > time.time()
        created = {"gte": span.begin} if is_last else {"gte": span.begin, "lt": end}
        made: list[Any] = []
        async for page in self._gateway.pages(span.objects, created=created):
            made += page
            if len(made) > PAGE and span.seconds > 1:
                return (), span._replace(seconds=span.seconds // 2)
        if is_last:
            return made, _Span(FOLLOWING[span.objects])
        return made, _Span(span.objects, end, span.seconds * (2 if 2 * len(made) < PAGE else 1))


class _Http(stripe.HTTPClient):
    """The SDK's connections, by httpx. Its own class for that bounds neither their number nor their time."""

    name = "httpx"

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__()
        self._client = client

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        try:
            answer = await self._client.request(method, url, headers=dict(headers), content=post_data)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unavailable(f"Stripe can't be reached: {error!r}") from error
        except httpx.HTTPError as error:
            raise NoAnswer(f"no answer from Stripe: {error!r}") from error
        return answer.content, answer.status_code, answer.headers

    async def close_async(self) -> None:
        await self._client.aclose()


def translated(error: StripeError) -> Exception:
    """What an error of Stripe's means for the delivery."""
    status = error.http_status or 0
    text = f"Stripe answers {status}: {error.user_message or type(error).__name__}"[:ERROR_LENGTH]
    match error:
        case stripe.AuthenticationError() | stripe.PermissionError():
            return AccessDenied(f"{text}. {WHAT_TO_DO}")
        case stripe.IdempotencyError():
            return PermanentError("idempotency-mismatch", text)
    if status == httpx.codes.CONFLICT or "lock_timeout" in str(error.json_body) or _is_saved(error):
        return TransientError(text)  # says something about this order alone
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Unavailable(text)
    return PermanentError("gateway-refused", text) if 400 <= status < 500 else NoAnswer(text)


def _is_saved(error: StripeError) -> bool:
    """Whether it is the answer to an earlier request with this key; Stripe will repeat it for a day."""
    return (error.headers or {}).get("Idempotent-Replayed") == "true"


def _order_of(made: Any) -> str | None:
    """The order of a charge or refund; None if its payment was not made by this service."""
    return getattr(made.payment_intent.metadata, "order_id", None) if made.payment_intent else None


def _audit_row(made: Any) -> dict[str, Any] | None:
    order_id = _order_of(made)
    if order_id is None or made.status in FAILED:
        return None
    amount = {"amount_minor": made.amount, "currency": made.currency.upper()}
    is_charge = made.object == "charge"
    charge_id = made.payment_intent.id if is_charge else made.id
    return {"kind": "charge", "order_id": order_id, "charge_id": charge_id,
            "type": "charge" if is_charge else "refund", "amount": amount,
            "at": datetime.fromtimestamp(made.created, UTC)}  # fmt: skip

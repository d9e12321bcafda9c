"""The `Idempotency-Key` header: which keys are read, which are refused, and when two requests are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_service.idempotency import MAX_KEY_LENGTH, fingerprint, idempotency_key
from order_service.orders import OrderRequest
from shared.http.problems import Problem

UUID = "8e03978e-40d5-43dd-bc93-6894a57f9324"
KEYS = {
    f'"{UUID}"': UUID,
    UUID: UUID,
    '  "abc"\t': "abc",
    '"with space"': "with space",
    r'"a \"quoted\" \\ word"': r'a "quoted" \ word',
    '"' + "k" * MAX_KEY_LENGTH + '"': "k" * MAX_KEY_LENGTH,
    '"   "': "   ",
    '"a;b";v=1': "a;b",
    "abc:d;v=1": "abc:d",
    **{bare: bare for bare in ("user:7/order=3", "4711", "*token")},
    # Parameters (RFC 9651, 3.1.2): a name alone, or with a value of any type.
    **{
        f"{key};{parameters}": "abc"
        for key in ('"abc"', "abc")
        for parameters in ("v=1", "v", "v=1;w;*x-y_z.9=2", "  v=1", "v=1;v=2", "v=-999999999999999", "v=-0.125",
                           r'v="a \" ; b"', "v=*tok/en:x", "v=:aGVsbG8=:", "v=::", "v=?0;w=?1", "v=@1659578233",
                           'v=%"f%c3%bc"')
    },
}  # fmt: skip


@pytest.mark.parametrize(("value", "key"), KEYS.items())
def test_a_key_is_read_quoted_or_bare_and_its_parameters_are_ignored(value: str, key: str) -> None:
    assert idempotency_key([value]) == key


def test_no_header_is_no_key() -> None:
    assert idempotency_key([]) is None


@pytest.mark.parametrize(
    "value",
    ["", " ", '""', '"abc', 'abc"', '"a"b"', r'"a\b"', "with space", "a,b", '"a", "b"', '"ü"', "ü", '"tab\there"',
     "k" * (MAX_KEY_LENGTH + 1), '"' + "k" * (MAX_KEY_LENGTH + 1) + '"', '"a"\n', "\u00a0", "'a b'", '"a"x', r'"a\"',
     # a value of another type: Byte Sequence, Boolean, Date, Display String, Inner List; a Dictionary; a List
     ":aGVsbG8=:", "?1", "@1659578233", '%"abc"', '("a")', 'a="b"', '"a","b"',
     # malformed parameters
     '"a";', "a;", '"a" ;v=1', '"a";\tv=1', '"a";V=1', '"a";1=2', '"a";-v', '"a";v=', '"a";v= 1', '"a";v =1', '"a";=1',
     '"a";v=1;', '"a";v=1,w', '"a";v=1 w', '"a";v=(1 2)', '"a";v="x', '"a";v=?2', '"a";v=1.', '"a";v=1.2345',
     '"a";v=1234567890123456', '"a";v=:a b:', '"a";v=@1.5', '"a";v=%"%FF"', '"a";v=\'x\'', '"";v=1', ";v=1"],
)  # fmt: skip
def test_a_malformed_key_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(Problem, match=r"^Idempotency-Key: ") as caught:
        idempotency_key([value])
    assert (caught.value.status, caught.value.errors[0].field) == (400, "Idempotency-Key")


def test_a_key_sent_twice_is_refused() -> None:
    with pytest.raises(Problem, match="more than once"):
        idempotency_key(['"a"', '"a"'])


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY_LENGTH))
def test_any_printable_key_survives_quoting(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert idempotency_key([quoted]) == key


def test_the_fingerprint_does_not_depend_on_how_the_json_is_written() -> None:
    first, rewritten, other = (
        fingerprint(OrderRequest.model_validate_json(body))
        for body in (
            '{"customer_email":"ada@example.com","items":[{"sku":"cola","quantity":1}]}',
            (
                '{ "items": [{"quantity": 1, "sku": "cola"}], "payment_token": "tok_visa",'
                ' "customer_email": "ada@example.com", "unknown": 1 }'
            ),
            '{"customer_email":"ada@example.com","items":[{"sku":"cola","quantity":2}]}',
        )
    )

    assert first == rewritten != other

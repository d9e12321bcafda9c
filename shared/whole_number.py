"""An integer in a request's body."""

from typing import Annotated

from pydantic import BeforeValidator, Field


def _whole(number: object) -> object:
    """In JSON Schema `2.0` is the integer 2, while `"2"` and `true` are no integers."""
    return int(number) if type(number) is float and number.is_integer() else number


WholeNumber = Annotated[int, BeforeValidator(_whole), Field(strict=True)]

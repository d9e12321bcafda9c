"""Every error as problem+json: its shape, its fields, and no word of what went wrong inside."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from pydantic import BaseModel, ValidationError

from shared.http.application import create_app
from shared.http.problems import MEDIA_TYPE, FieldError, Problem
from shared.ids import UUID_PATTERN
from shared.persistence.failures import DatabaseUnavailable

router = APIRouter()


class Line(BaseModel):
    sku: str
    quantity: int


class Basket(BaseModel):
    lines: list[Line]


@router.get("/kettle")
async def kettle() -> None:
    raise Problem(418, "I am a teapot", headers={"Retry-After": "60"})


@router.get("/away")
async def away() -> None:
    raise DatabaseUnavailable("orders: connection to postgres://orders:s3cret@db failed")


@router.get("/bug")
async def bug() -> None:
    raise ZeroDivisionError("s3cret")


@router.post("/basket")
async def basket(basket: Basket, page: Annotated[int, Query(ge=1)] = 1) -> None:
    pass


@router.get("/found")
async def found(id: Annotated[str, Query(pattern=UUID_PATTERN)]) -> None:
    pass


@pytest.fixture
def app() -> FastAPI:
    app = create_app(title="Test", description="", operator_token="")
    app.include_router(router)
    return app


async def ask(app: FastAPI, method: str, path: str, **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, path, **arguments)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["status"] == answer.status_code
    return answer


async def test_a_problem_says_what_where_and_how(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/kettle")

    assert answer.json() == {
        "type": "about:blank", "title": "I'm a Teapot", "status": 418, "detail": "I am a teapot", "instance": "/kettle"
    }  # fmt: skip
    assert answer.headers["retry-after"] == "60"


async def test_a_database_that_is_away_asks_to_come_back_and_tells_no_secret(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/away")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "s3cret" not in answer.text


async def test_a_bug_tells_nothing_of_itself(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/bug")

    assert answer.status_code == 500
    assert "s3cret" not in answer.text
    assert "ZeroDivision" not in answer.text


async def test_each_wrong_field_is_named_by_its_place(app: FastAPI) -> None:
    body = {"lines": [{"sku": "a", "quantity": 1}, {"sku": 5, "quantity": "many"}]}
    answer = await ask(app, "POST", "/basket?page=0", json=body)

    assert answer.status_code == 422
    assert sorted(error["field"] for error in answer.json()["errors"]) == [
        "lines[1].quantity", "lines[1].sku", "page"
    ]  # fmt: skip


@pytest.mark.parametrize(("body", "field"), [({"lines": 5}, "lines"), ({}, "lines"), ([], "body")])
async def test_a_body_of_another_shape_is_named(app: FastAPI, body: Any, field: str) -> None:
    answer = await ask(app, "POST", "/basket", json=body)

    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_an_id_that_is_no_uuid_is_told_in_words(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/found?id=5")

    assert answer.json()["detail"] == "id: expected a UUID in lower case"


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(app: FastAPI) -> None:
    assert (await ask(app, "GET", "/nowhere")).status_code == 404
    wrong = await ask(app, "DELETE", "/basket")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_problem_of_many_fields_names_the_first_five_in_its_sentence() -> None:
    problem = Problem.of_fields([FieldError(field=f"f{number}", detail="no") for number in range(9)])

    assert problem.detail == "f0: no; f1: no; f2: no; f3: no; f4: no"
    assert len(problem.errors) == 9


def test_a_problem_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(ValidationError) as caught:
        Line.model_validate({"sku": "a", "quantity": "4242424242424242x"})

    assert "4242" not in Problem.of_validation(caught.value).detail

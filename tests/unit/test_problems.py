"""Every error as problem+json: its shape, its fields, and nothing of the error's inner text."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel

from shared.http.application import create_app
from shared.http.problems import MEDIA_TYPE, Problem
from shared.ids import GivenId
from shared.persistence.failures import CommitUnknown, DatabaseUnavailable

ERRORS: dict[str, Exception] = {
    "kettle": Problem(418, "I am a teapot", headers={"Retry-After": "60"}),
    "away": DatabaseUnavailable("orders: connection to postgres://orders:s3cret@db failed"),
    "unknown": CommitUnknown("s3cret: it is unknown whether it was committed"),
    "bug": ZeroDivisionError("s3cret"),
}


class Line(BaseModel):
    sku: str
    quantity: int


class Basket(BaseModel):
    lines: list[Line]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = create_app(title="Test", description="", operator_token="")

    @app.get("/errors/{name}")
    async def fail(name: str) -> None:
        raise ERRORS[name]

    @app.post("/basket")
    async def basket(basket: Basket, page: Annotated[int, Query(ge=1)] = 1, id: GivenId | None = None) -> None:
        pass

    return app


async def ask(app: FastAPI, method: str, path: str, **arguments: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, path, **arguments)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["status"] == answer.status_code
    return answer


async def test_a_problem_says_what_where_and_how(app: FastAPI) -> None:
    answer = await ask(app, "GET", "/errors/kettle")

    assert answer.json() == {
        "type": "about:blank", "title": "I'm a Teapot", "status": 418, "detail": "I am a teapot",
        "instance": "/errors/kettle",
    }  # fmt: skip
    assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    ("name", "status", "retry_after", "detail"),
    [("away", 503, "1", "Nothing was done"), ("unknown", 503, "1", "it is unknown whether this was done"),
     ("bug", 500, None, "The log says more")],
)  # fmt: skip
async def test_an_inner_error_shows_nothing_of_its_text(
    app: FastAPI, name: str, status: int, retry_after: str | None, detail: str
) -> None:
    answer = await ask(app, "GET", f"/errors/{name}")

    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert detail in answer.json()["detail"]
    assert "s3cret" not in answer.text
    assert "ZeroDivision" not in answer.text


@pytest.mark.parametrize(
    ("query", "body", "fields"),
    [
        ("?page=0", {"lines": [{"sku": "a", "quantity": 1}, {"sku": 5, "quantity": "many"}]},
         ["lines[1].quantity", "lines[1].sku", "page"]),
        ("", {"lines": 5}, ["lines"]),
        ("", {}, ["lines"]),
        ("", [], ["body"]),
    ],
)  # fmt: skip
async def test_each_wrong_field_is_named_by_its_place(app: FastAPI, query: str, body: Any, fields: list[str]) -> None:
    answer = await ask(app, "POST", f"/basket{query}", json=body)

    assert answer.status_code == 422
    assert sorted(error["field"] for error in answer.json()["errors"]) == fields


async def test_an_id_that_is_no_uuid_is_said_to_be_none(app: FastAPI) -> None:
    answer = await ask(app, "POST", "/basket?id=5", json={"lines": []})

    assert answer.json()["detail"] == "id: expected a UUID"


async def test_a_problem_of_many_fields_names_the_first_five_in_its_sentence_and_no_value(app: FastAPI) -> None:
    lines = [{"sku": "a", "quantity": "4242424242424242x"}] * 9
    problem = (await ask(app, "POST", "/basket", json={"lines": lines})).json()

    assert [part.partition(":")[0] for part in problem["detail"].split("; ")] == [
        f"lines[{number}].quantity" for number in range(5)
    ]
    assert len(problem["errors"]) == 9
    assert "4242" not in str(problem)


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(app: FastAPI) -> None:
    assert (await ask(app, "GET", "/nowhere")).status_code == 404
    wrong = await ask(app, "DELETE", "/basket")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")

"""The files of the shop page are served with the right headers, and no other file of its folder is."""

from pathlib import Path

import pytest

import order_service.shop
from tests.service.process import RunningService

FOLDER = Path(order_service.shop.__file__).parent
FILES = sorted(file.name for file in FOLDER.iterdir() if file.suffix in (".html", ".css", ".js", ".svg"))
TYPES = {".html": "text/html", ".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml"}


@pytest.mark.parametrize("path", ["/", *(f"/shop/{name}" for name in FILES)])
async def test_a_file_has_its_media_type_and_a_strict_content_policy(order_service: RunningService, path: str) -> None:
    answer = await order_service.http.get(path)

    assert answer.status_code == 200
    assert TYPES[Path(path).suffix or ".html"] in answer.headers["content-type"]
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")


async def test_a_file_that_has_not_changed_is_not_sent_again(order_service: RunningService) -> None:
    first = await order_service.http.get("/")

    second = await order_service.http.get("/", headers={"If-None-Match": first.headers["etag"]})

    assert (second.status_code, second.content) == (304, b"")


@pytest.mark.parametrize("path", ["/shop/__init__.py", "/shop/no-such.js", "/shop/..%2Fapi.py", "/shop/"])
async def test_no_other_file_of_the_folder_is_served(order_service: RunningService, path: str) -> None:
    answer = await order_service.http.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_page_accepts_no_post(order_service: RunningService) -> None:
    answer = await order_service.http.post("/", json={})

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"

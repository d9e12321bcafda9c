"""`/docs`: Swagger UI from files of our own, so that it works without the internet.

All links are paths: behind a proxy a service knows neither its scheme nor its host.
"""

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

from shared.http.problems import Problem

_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon-32x32.png": "image/png"}
_OPTIONS = {"tryItOutEnabled": True, "persistAuthorization": True, "filter": True, "displayRequestDuration": True}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    script, style, icon = (f"/swagger/{name}" for name in _TYPES)
    return get_swagger_ui_html(
        openapi_url="/openapi.json", title=f"{request.app.title}: API", swagger_js_url=script, swagger_css_url=style,
        swagger_favicon_url=icon, swagger_ui_parameters=_OPTIONS,
    )  # fmt: skip


@router.get("/swagger/{name}")
async def file(name: str) -> Response:
    if name not in _TYPES:
        raise Problem(404, "Swagger UI has no such file")
    return Response(_content(name), media_type=_TYPES[name])


@cache
def _content(name: str) -> bytes:
    return (resources.files("fastapi_swagger.resources") / name).read_bytes()

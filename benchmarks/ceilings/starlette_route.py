"""The order validated on bare Starlette, and nothing done with it."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from order_service.orders import OrderRequest


async def place_order(request: Request) -> JSONResponse:
    OrderRequest.model_validate_json(await request.body())
    return JSONResponse({"status": "placed"}, 202)


app = Starlette(routes=[Route("/orders", place_order, methods=["POST"])])

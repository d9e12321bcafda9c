"""The order validated by FastAPI, as its documentation teaches, and nothing done with it."""

from fastapi import FastAPI

from order_service.orders import OrderRequest

app = FastAPI()


@app.post("/orders", status_code=202)
async def place_order(order: OrderRequest) -> dict[str, str]:
    return {"status": "placed"}

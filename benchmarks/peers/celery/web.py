"""The web application: a plain `def` route, which FastAPI runs in its thread pool."""

from fastapi import FastAPI

from benchmarks.peers import shop
from benchmarks.peers.celery.tasks import pay
from order_service.orders import OrderRequest

app = FastAPI()


@app.post("/orders", status_code=202)
def place_order(order: OrderRequest, session: shop.SessionDependency) -> shop.PlacedOrder:
    placed = shop.place(session, order)
    pay.delay(placed.model_dump(mode="json"))
    return placed

"""The web application of the peers that do all steps. It publishes nothing: the relay does."""

from fastapi import FastAPI

from benchmarks.peers import all_steps, shop
from order_service.orders import OrderRequest

app = FastAPI()


@app.post("/orders", status_code=202)
def place_order(order: OrderRequest, session: shop.SessionDependency) -> shop.PlacedOrder:
    return all_steps.place(session, order)

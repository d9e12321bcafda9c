"""The web application: the connection lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers import shop
from benchmarks.peers.repid.server import publish, publisher
from order_service.orders import OrderRequest


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with publisher.connection():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=202)
async def place_order(order: OrderRequest, session: shop.SessionDependency) -> shop.PlacedOrder:
    placed = await run_in_threadpool(shop.place, session, order)
    await publish("payments", placed)
    return placed

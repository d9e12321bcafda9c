"""The web application: the broker lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers import shop
from benchmarks.peers.faststream.queues import PAYMENTS, new_broker
from order_service.orders import OrderRequest

broker = new_broker()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with broker:
        await broker.start()
        await broker.declare_queue(PAYMENTS)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=202)
async def place_order(order: OrderRequest, session: shop.SessionDependency) -> shop.PlacedOrder:
    placed = await run_in_threadpool(shop.place, session, order)
    await broker.publish(placed, PAYMENTS, persist=True)
    return placed

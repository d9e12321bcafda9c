"""scaling: payments a second with one, two and four replicas of the payment service, on PostgreSQL.

The gateway takes 100 ms for an answer, and each replica has 16 charges under way at once. So a replica spends its time
waiting, and throughput grows with their number until the processors are used up. Each number of replicas drains a
backlog of its own; all counts from the first payment.
"""

from dataclasses import replace

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL, PAYMENTS, Contender, Query
from benchmarks.drain import drain
from benchmarks.load.run import place_many
from benchmarks.usage import busy_percent

NAME = "scaling"
REPLICAS = (1, 2, 4)
VARIABLES = {"GATEWAY_LATENCY_SECONDS": "0.1", "PAYMENT_CONCURRENCY": "16"}


def quantity(replicas: int) -> str:
    """What is measured with so many replicas."""
    return f"payments with {replicas} replica{'s' if replicas > 1 else ''}"


def busy(replicas: int) -> str:
    """What says whether the processors were used up."""
    return f"all cores, {quantity(replicas)}"


async def measure_round(bench: Bench, round_number: int) -> None:
    """Each number of replicas once; each round begins with another one."""
    first = round_number % len(REPLICAS)
    for replicas in REPLICAS[first:] + REPLICAS[:first]:
        bench.say(f"{NAME}: {quantity(replicas)}")
        orders = replicas * bench.scale.paid_by_a_replica
        async with bench.scene(_with(replicas)) as scene:
            await scene.start_web()
            await place_many(scene, bench.scale, orders)
            await wait_for_arrival(scene, orders)
            await scene.start_workers()
            busy_percent(0)
            drained = await drain(scene, orders)
            busy_while_draining = busy_percent(0)
        bench.add(NAME, ORDER_RAIL.name, quantity(replicas), "orders/s", drained.rate)
        bench.add(NAME, ORDER_RAIL.name, busy(replicas), "% busy", busy_while_draining)


def _with(replicas: int) -> Contender:
    """An order is finished once it is paid: nobody is notified."""
    others = [replace(PAYMENTS, name=f"{PAYMENTS.name}_{n}", database=PAYMENTS.name) for n in range(2, replicas + 1)]
    paid = Query(PAYMENTS.name, "SELECT count(*) FROM payments WHERE order_id > ?")
    return replace(ORDER_RAIL, workers=(PAYMENTS, *others), finished=paid, variables=VARIABLES)

"""What the service that counts visits is to the others."""

from shared.contract import Partitions, QueueContract, ServiceContract
from shared.events import OrderPlaced

BY_CUSTOMER = Partitions(4, key="data.order.customer_email")

CONTRACT = ServiceContract(
    name="visits_service",
    title="Visits of customers",
    port=8104,
    queues=(QueueContract("count", title="Visits to be counted", takes=(OrderPlaced,), partitions=BY_CUSTOMER),),
)

"""What the loyalty service is to the others."""

from shared.contract import QueueContract, ServiceContract
from shared.events import PaymentSucceeded

CONTRACT = ServiceContract(
    name="loyalty_service",
    title="Loyalty points",
    port=8003,
    queues=(QueueContract("earn", title="Points to be credited", takes=(PaymentSucceeded,)),),
)

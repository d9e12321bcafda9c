"""What the herald service is to the others."""

from herald_service.events import HeraldAnnounced
from shared.contract import QueueContract, ServiceContract
from shared.events import PaymentSucceeded

CONTRACT = ServiceContract(
    name="herald_service",
    title="Herald service",
    port=8105,
    exchange="herald",
    publishes=(HeraldAnnounced,),
    queues=(QueueContract("work", title="Herald: events to be handled", takes=(PaymentSucceeded,)),),
)

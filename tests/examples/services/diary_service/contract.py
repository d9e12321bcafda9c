"""What the diary service is to the others."""

from shared.contract import QueueContract, ServiceContract
from shared.events import PaymentSucceeded

CONTRACT = ServiceContract(
    name="diary_service",
    title="Diary service",
    port=8103,
    queues=(QueueContract("work", title="Diary: events to be handled", takes=(PaymentSucceeded,)),),
)

"""What the greeting service is to the others."""

from greeting_service.events import GreetingRequested, GreetingWritten
from shared.contract import Page, QueueContract, ServiceContract, Stage

CONTRACT = ServiceContract(
    name="greeting_service",
    title="Greeting service",
    port=8106,
    exchange="greetings",
    publishes=(GreetingRequested, GreetingWritten),
    queues=(QueueContract("write", title="Greetings to be written", takes=(GreetingRequested,)),),
    page=Page("API", variable="API_URL", path="/docs"),
    stages=(
        Stage(
            "requested",
            label="requested",
            counter="order_rail_greetings_requested_total",
            without_broker="Greetings are still taken and wait in the outbox.",
        ),
        Stage("written", label="written", queue="write"),
    ),
)

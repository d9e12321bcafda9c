"""What the payment service is to the others."""

from shared.contract import DatabaseContract, QueueContract, ServiceContract
from shared.events import OrderPlaced, PaymentDeclined, PaymentStalled, PaymentSucceeded

CONTRACT = ServiceContract(
    name="payment_service",
    title="Payment service",
    port=8001,
    exchange="payments",
    publishes=(PaymentSucceeded, PaymentDeclined, PaymentStalled),
    queues=(QueueContract("charge", title="To be charged", takes=(OrderPlaced,)),),
    further_databases=(DatabaseContract("GATEWAY_URL", name="gateway", label="gateway", scheme="simulated+"),),
)

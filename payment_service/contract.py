"""What the payment service is to the others."""

from shared.contract import DatabaseContract, QueueContract, ServiceContract, Stage
from shared.events import (
    OrderCancelled,
    OrderPlaced,
    PaymentDeclined,
    PaymentRefunded,
    PaymentStalled,
    PaymentSucceeded,
    PaymentVoided,
)

CONTRACT = ServiceContract(
    name="payment_service",
    title="Payment service",
    port=8001,
    exchange="payments",
    publishes=(PaymentSucceeded, PaymentDeclined, PaymentStalled, PaymentVoided, PaymentRefunded),
    queues=(QueueContract("charge", title="To be charged", takes=(OrderPlaced, OrderCancelled)),),
    stages=(Stage("charged", label="paid", queue="charge"),),
    further_databases=(
        DatabaseContract(
            "GATEWAY_URL",
            name="gateway",
            label="gateway",
            migrations="payment_service.gateways.simulated.migrations",
            scheme="simulated+",
        ),
    ),
)

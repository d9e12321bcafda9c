"""`python -m payment_service`"""

from payment_service.app import Settings, build
from shared.service import main

main("payment_service", Settings, build)

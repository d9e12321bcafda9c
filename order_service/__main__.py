"""`python -m order_service`"""

from order_service.app import Settings, build
from shared.service import main

main("order_service", Settings, build)

"""`python -m notification_service`"""

from notification_service.app import Settings, build
from shared.service import main

main("notification_service", Settings, build)

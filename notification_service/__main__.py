"""`python -m notification_service`"""

from shared.tuning import quick_imports

with quick_imports():
    from notification_service.app import Settings, build
    from shared.service import main

main("notification_service", Settings, build)

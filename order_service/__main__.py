"""`python -m order_service`"""

from shared.tuning import quick_imports

with quick_imports():
    from order_service.app import Settings, build
    from shared.service import main

main("order_service", Settings, build)

"""`python -m payment_service`"""

from shared.tuning import quick_imports

with quick_imports():
    from payment_service.app import Settings, build
    from shared.service import main

main("payment_service", Settings, build)

"""`python -m loyalty_service`"""

from loyalty_service.app import Settings, build
from loyalty_service.contract import CONTRACT
from shared.service import main

main(CONTRACT.name, Settings, build)

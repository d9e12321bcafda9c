"""`python -m herald_service`"""

from herald_service.app import Settings, build
from herald_service.contract import CONTRACT
from shared.service import main

main(CONTRACT.name, Settings, build)

"""`python -m greeting_service`"""

from greeting_service.app import Settings, build
from greeting_service.contract import CONTRACT
from shared.service import main

main(CONTRACT.name, Settings, build)

"""`python -m diary_service`"""

from diary_service.app import Settings, build
from diary_service.contract import CONTRACT
from shared.service import main

main(CONTRACT.name, Settings, build)

"""`python -m visits_service`"""

from shared.service import main
from visits_service.app import Settings, build
from visits_service.contract import CONTRACT

main(CONTRACT.name, Settings, build)

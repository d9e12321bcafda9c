"""Leads emails to another mail server: the notification service is started again with another `EMAIL_URL`."""

from control_room.dashboard.process_control import PlugStuck
from control_room.launcher.processes import SupervisedProcess


class LauncherMailRoute:
    """For a notification service that is a process of ours."""

    def __init__(self, process: SupervisedProcess) -> None:
        self._process, self._usual = process, dict(process.environment)

    async def lead_to(self, url: str) -> None:
        """With an empty URL they go where they went before. Raises PlugStuck."""
        if not self._process.is_running:
            raise PlugStuck("notification_service does not run just now; start it first")
        self._process.environment = {**self._usual, "EMAIL_URL": url} if url else self._usual
        await self._process.restart()

"""Where emails go, for a notification service that is a child of this process."""

from control_room.dashboard.process_control import ControlFailed
from control_room.launcher.processes import SupervisedProcess


class LauncherMailRoute:
    """Sends emails to another mail server, by restarting the notification service with another `EMAIL_URL`."""

    def __init__(self, process: SupervisedProcess) -> None:
        self._process, self._usual = process, dict(process.environment)

    async def lead_to(self, url: str) -> None:
        """An empty URL restores the usual mail server. Raises ControlFailed."""
        process = self._process
        if not process.is_running:
            raise ControlFailed(f"{process.name} does not run just now; start it first")
        process.environment = {**self._usual, "EMAIL_URL": url} if url else self._usual
        await process.restart()

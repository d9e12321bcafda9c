"""What Erlang nodes of one machine need to reach each other: a cookie, and the port mapper epmd that they share."""

import os
import secrets
from asyncio.subprocess import Process
from pathlib import Path

from control_room.launcher.children import kill, spawn
from control_room.launcher.installed import EPMD, ERLANG_FOLDERS, find
from control_room.launcher.ports import free_ports, is_free

# They may be meant for another node.
FOREIGN = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "LISTEN_")


class ErlangHome:
    """A private cookie in `directory`, and an epmd on a port of its own, on loopback only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log" / "start.log"
        (self.epmd_port,) = free_ports(1)
        self.epmd: Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables of this process, without those for RabbitMQ or Erlang, and those that lead here."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "HOME": str(self.directory),  # where Erlang looks for its cookie
            "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), *ERLANG_FOLDERS)),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    async def start(self) -> None:
        """Run epmd in the foreground; otherwise Erlang starts one for the machine, which is never stopped.

        It may not listen yet. Does nothing if it runs.
        """
        self._write_cookie()
        if self.epmd is None or self.epmd.returncode is not None:
            command = [find(EPMD), "-port", str(self.epmd_port), "-address", "127.0.0.1"]
            self.epmd = await spawn(command, self.environment, self.log, self.directory)

    async def stop(self) -> None:
        epmd, self.epmd = self.epmd, None
        if epmd is not None:
            await kill(epmd)

    async def listens(self) -> bool:
        """Whether epmd listens."""
        return not is_free(self.epmd_port)

    def _write_cookie(self) -> None:
        cookie = self.directory / ".erlang.cookie"
        if not cookie.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            cookie.touch(mode=0o600)  # Erlang refuses a cookie that others can read
            cookie.write_text(secrets.token_hex(20))

"""Where RabbitMQ and Erlang are installed on this machine."""

import os
import shutil

from control_room.launcher import LaunchError

# Debian's /usr/sbin/rabbitmq-server is a wrapper that changes the user; the folder before it holds the real one.
SERVER_FOLDERS = (
    "/usr/lib/rabbitmq/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/sbin",
    "/opt/homebrew/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/home/linuxbrew/.linuxbrew/sbin",
)
ERLANG_FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin")
SERVER, CONTROL, EPMD = "rabbitmq-server", "rabbitmqctl", "epmd"


class NotInstalledError(LaunchError):
    """`program`, which the private RabbitMQ node needs, is not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} was not found. Run control_room/launcher/install_prerequisites.sh, "
            "or set RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL to a RabbitMQ that runs."
        )
        self.program = program


def find(program: str) -> str:
    """The path of a program of RabbitMQ or Erlang. Raises NotInstalledError."""
    path = os.environ.get("PATH", os.defpath)
    folders = (path, *ERLANG_FOLDERS) if program == EPMD else (*SERVER_FOLDERS, path)
    found = shutil.which(program, path=os.pathsep.join(folders))
    if found is None:
        raise NotInstalledError(program)
    return found


def missing() -> str:
    """The first program that a private node needs and that is not installed; empty if all are."""
    try:
        for program in (SERVER, CONTROL, EPMD):
            find(program)
    except NotInstalledError as error:
        return error.program
    return ""

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
    """A program that the private RabbitMQ node needs is not on this machine."""


def find(program: str) -> str:
    """The path of a program of RabbitMQ or Erlang. Raises NotInstalledError."""
    if found := _path_of(program):
        return found
    raise NotInstalledError(
        f"{program} was not found. Run control_room/launcher/install_prerequisites.sh, "
        "or set RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL to a RabbitMQ that runs."
    )


def missing() -> str:
    """The first program that a private node needs and that is not installed; empty if all are."""
    return next((program for program in (SERVER, CONTROL, EPMD) if not _path_of(program)), "")


def _path_of(program: str) -> str | None:
    path = os.environ.get("PATH", os.defpath)
    folders = (path, *ERLANG_FOLDERS) if program == EPMD else (*SERVER_FOLDERS, path)
    return shutil.which(program, path=os.pathsep.join(folders))

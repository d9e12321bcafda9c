"""Where this machine has RabbitMQ and Erlang."""

import os
import shutil

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


class NotInstalledError(Exception):
    """`program`, which the private RabbitMQ node needs, is not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} was not found. Run control_room/launcher/install_prerequisites.sh, "
            "or set RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL to a RabbitMQ that runs."
        )
        self.program = program


def find_server() -> str:
    """The path of `rabbitmq-server`. Raises NotInstalledError."""
    return _find("rabbitmq-server", os.pathsep.join((*SERVER_FOLDERS, _path())))


def find_control() -> str:
    """The path of `rabbitmqctl`. Raises NotInstalledError."""
    return _find("rabbitmqctl", os.pathsep.join((*SERVER_FOLDERS, _path())))


def find_epmd() -> str:
    """The path of `epmd`, Erlang's directory of nodes. Raises NotInstalledError."""
    return _find("epmd", os.pathsep.join((_path(), *ERLANG_FOLDERS)))


def missing() -> str:
    """The first program that a node of our own would need and that is not here; empty if all are."""
    try:
        for find in (find_server, find_control, find_epmd):
            find()
    except NotInstalledError as error:
        return error.program
    return ""


def _find(program: str, folders: str) -> str:
    found = shutil.which(program, path=folders)
    if found is None:
        raise NotInstalledError(program)
    return found


def _path() -> str:
    return os.environ.get("PATH", os.defpath)

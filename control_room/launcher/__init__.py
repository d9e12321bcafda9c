"""Starts a private broker, the services and the control room as processes of this machine, and keeps them running."""


class LaunchError(Exception):
    """The system could not be started; the message says what to do. Nothing of it runs."""

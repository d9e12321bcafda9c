"""Starts a private broker, the services and the control room as processes of this machine, and keeps them running."""

"""The control-room page, the snapshots of the system that it shows, and the process control behind its buttons."""

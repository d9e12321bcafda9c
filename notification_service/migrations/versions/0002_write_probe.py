"""The row that says whether the database can be written."""

from shared.persistence.migrations import create_write_probe

revision, down_revision = "notification_service_0002", "notification_service_0001"


def upgrade() -> None:
    create_write_probe()

"""How far the database is pruned."""

from shared.persistence.migrations import create_milestones

revision, down_revision = "payment_service_0003", "payment_service_0002"


def upgrade() -> None:
    create_milestones()

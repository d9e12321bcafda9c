"""How far the database is pruned."""

from shared.persistence.migrations import create_milestones

revision, down_revision = "loyalty_service_0002", "loyalty_service_0001"


def upgrade() -> None:
    create_milestones()

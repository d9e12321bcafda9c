"""How far the database is pruned."""

from shared.persistence.migrations import create_milestones

revision, down_revision = "gateway_0003", "gateway_0002"


def upgrade() -> None:
    create_milestones()

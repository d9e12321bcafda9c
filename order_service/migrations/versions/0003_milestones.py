"""How far the database is pruned, and an index to delete idempotency keys together with their orders."""

from alembic import op

from shared.persistence.migrations import create_milestones

revision, down_revision = "order_service_0003", "order_service_0002"


def upgrade() -> None:
    create_milestones()
    op.create_index("idempotency_key_of_order", "idempotency_keys", ["order_id"], if_not_exists=True)

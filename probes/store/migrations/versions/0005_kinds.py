"""Another kind of pack than SIF: its name in the targets, its score in the rounds."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.add_column("targets", sa.Column("kind", sa.String(length=12), nullable=False, server_default="sif"))
    op.add_column("rounds", sa.Column("score", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("rounds", "score")
    op.drop_column("targets", "kind")

"""Another kind of pack than SIF: its name in the targets, its score in the rounds."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    with op.batch_alter_table("targets") as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=12), nullable=False, server_default="sif"))
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.add_column(sa.Column("score", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.drop_column("score")
    with op.batch_alter_table("targets") as batch_op:
        batch_op.drop_column("kind")

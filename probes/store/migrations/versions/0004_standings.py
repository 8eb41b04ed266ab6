"""Where each target's e-processes stand; an index tells alone how often and when a picture was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SENT = ["target", "pack_id", "trigger_id", "control", "intended_at"]


def upgrade() -> None:
    """Apply the step."""
    op.drop_index("ix_asks_history", "asks")
    op.create_index("ix_asks_history", "asks", [*SENT, "state", "failure"])
    op.create_table(
        "standings",
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("last_ask", sa.Integer(), nullable=False),
        sa.Column("scored", sa.Integer(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("target", "pack_id", name=op.f("pk_standings")),
    )


def downgrade() -> None:
    """Take it back; the next round of each target replays its answers."""
    op.drop_table("standings")
    op.drop_index("ix_asks_history", "asks")
    op.create_index("ix_asks_history", "asks", SENT)

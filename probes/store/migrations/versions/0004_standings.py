"""Where each target's e-processes stand; two indexes that a long history needs.

How often and when a picture was sent is read from one alone; retention finds an answer's link by the other.
"""

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
    op.create_index("ix_chain_ask_id", "chain", ["ask_id"])
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
    op.drop_index("ix_chain_ask_id", "chain")
    op.drop_index("ix_asks_history", "asks")
    op.create_index("ix_asks_history", "asks", SENT)

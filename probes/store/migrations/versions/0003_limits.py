"""Pauses, burned triggers, what ended a round early, retention; tallies; indexes by time."""

import sqlalchemy as sa
from alembic import op

from probes.store.tallies import recount

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "holds",
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("held_by", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_holds")),
    )
    op.create_table(
        "burned",
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("trigger_id", sa.String(length=100), nullable=False),
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("pack_id", "trigger_id", "target", name=op.f("pk_burned")),
    )
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.add_column(sa.Column("held", sa.String(length=20), nullable=True))
        batch_op.add_column(sa.Column("oversize", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("answers") as batch_op:
        batch_op.add_column(sa.Column("dropped_at", sa.Double(), nullable=True))
    op.create_table(
        "tallies",
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("target", "pack_id", "name", name=op.f("pk_tallies")),
    )
    recount(op.get_bind())
    op.create_index("ix_asks_sent", "asks", ["target", "intended_at"])
    op.create_index("ix_asks_intended_at", "asks", ["intended_at"])


def downgrade() -> None:
    """Take it back."""
    op.drop_index("ix_asks_intended_at", "asks")
    op.drop_index("ix_asks_sent", "asks")
    with op.batch_alter_table("answers") as batch_op:
        batch_op.drop_column("dropped_at")
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.drop_column("oversize")
        batch_op.drop_column("held")
    op.drop_table("tallies")
    op.drop_table("burned")
    op.drop_table("holds")

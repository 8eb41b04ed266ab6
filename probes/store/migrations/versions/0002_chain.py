"""A hash chain of the exchanges, raw replies in it; the wrong-key control of a round."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.add_column(sa.Column("wrong_key_share", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("wrong_key_pvalue", sa.Double(), nullable=True))
    with op.batch_alter_table("asks") as batch_op:
        batch_op.add_column(sa.Column("request", sa.String(), nullable=True))
    with op.batch_alter_table("answers") as batch_op:
        batch_op.alter_column("raw", existing_type=sa.JSON(), nullable=True)
    op.create_table(
        "chain",
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("ask_id", sa.Integer(), nullable=False),
        sa.Column("record", sa.String(), nullable=False),
        sa.Column("response", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["ask_id"], ["asks.id"], name=op.f("fk_chain_ask_id")),
        sa.PrimaryKeyConstraint("target", "pack_id", "position", name=op.f("pk_chain")),
    )


def downgrade() -> None:
    """Take it back; replies in the chain are lost."""
    op.drop_table("chain")
    op.execute(sa.text("UPDATE answers SET raw = '{}' WHERE raw IS NULL"))
    with op.batch_alter_table("answers") as batch_op:
        batch_op.alter_column("raw", existing_type=sa.JSON(), nullable=False)
    with op.batch_alter_table("asks") as batch_op:
        batch_op.drop_column("request")
    with op.batch_alter_table("rounds") as batch_op:
        batch_op.drop_column("wrong_key_pvalue")
        batch_op.drop_column("wrong_key_share")

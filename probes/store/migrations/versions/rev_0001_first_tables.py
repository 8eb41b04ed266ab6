"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPEN = sa.text("state = 'intent'")


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "leases",
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_leases")),
    )
    op.create_table(
        "rounds",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("scored", sa.Integer(), nullable=False),
        sa.Column("z", sa.Double(), nullable=True),
        sa.Column("log_pvalue", sa.Double(), nullable=True),
        sa.Column("control_z", sa.Double(), nullable=True),
        sa.Column("threshold_z", sa.Double(), nullable=True),
        sa.Column("log_e", sa.Double(), nullable=True),
        sa.Column("log_e_max", sa.Double(), nullable=True),
        sa.Column("log_e_independent", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(length=12), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
    )
    with op.batch_alter_table("rounds", schema=None) as batch_op:
        batch_op.create_index("ix_rounds_target", ["target", "pack_id", "id"], unique=False)

    op.create_table(
        "targets",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("api_base", sa.String(), nullable=True),
        sa.Column("authorised_by", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("interval_s", sa.Double(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_targets")),
    )
    op.create_table(
        "asks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("round_id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=63), nullable=False),
        sa.Column("pack_id", sa.String(length=100), nullable=False),
        sa.Column("trigger_id", sa.String(length=100), nullable=False),
        sa.Column("control", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("image_sha256", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("max_tokens", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("intended_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_asks_round_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asks")),
    )
    with op.batch_alter_table("asks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_asks_history", ["target", "pack_id", "trigger_id", "control", "intended_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_asks_round_id"), ["round_id"], unique=False)
        batch_op.create_index(
            "uq_asks_open_intent",
            ["target", "pack_id", "trigger_id", "control"],
            unique=True,
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        )

    op.create_table(
        "answers",
        sa.Column("ask_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("finish_reason", sa.String(), nullable=False),
        sa.Column("served_model", sa.String(), nullable=False),
        sa.Column("latency_s", sa.Double(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("raw", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["ask_id"], ["asks.id"], name=op.f("fk_answers_ask_id")),
        sa.PrimaryKeyConstraint("ask_id", name=op.f("pk_answers")),
    )
    op.create_table(
        "scores",
        sa.Column("ask_id", sa.Integer(), nullable=False),
        sa.Column("types", sa.Integer(), nullable=False),
        sa.Column("greens", sa.Integer(), nullable=False),
        sa.Column("z", sa.Double(), nullable=False),
        sa.Column("log_pvalue", sa.Double(), nullable=False),
        sa.Column("hit", sa.Boolean(), nullable=False),
        sa.Column("new_types", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["ask_id"], ["answers.ask_id"], name=op.f("fk_scores_ask_id")),
        sa.PrimaryKeyConstraint("ask_id", name=op.f("pk_scores")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("scores")
    op.drop_table("answers")
    with op.batch_alter_table("asks", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_asks_open_intent",
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        )
        batch_op.drop_index(batch_op.f("ix_asks_round_id"))
        batch_op.drop_index("ix_asks_history")

    op.drop_table("asks")
    op.drop_table("targets")
    with op.batch_alter_table("rounds", schema=None) as batch_op:
        batch_op.drop_index("ix_rounds_target")

    op.drop_table("rounds")
    op.drop_table("leases")

"""Settings of the training of queries and verifier."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.metav.pack import MAX_QUERIES
from sif_offline.fingerprint.metav.verifier import Activation, Form, Transform
from sif_offline.fingerprint.metav.views import check_view
from sif_offline.fingerprint.schema import first_problem
from sif_offline.metav.queries import Start
from sif_offline.metav.transport import check_transport

Kind = Literal["probabilities", "values"]
TRAINED_VIEWS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {"probabilities": ("full", "rounded-1", "label"), "values": ("full", "rounded-1")}
)
SCORED_VIEWS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "probabilities": ("full", "rounded-2", "rounded-1", "top-3", "label"),
        "values": ("full", "rounded-2", "rounded-1"),
    }
)


class MetaVSettingsError(SifError):
    """A setting that there is none of, or a value that it does not take."""


class MetaVSettings(BaseModel):
    """How queries and verifier are trained together.

    Published (Pan et al., KDD 2022, and the public re-implementation): 30 to 70 queries, a joint verifier of
    two linear layers, Adam on both, 2 to 3 models a side a step, two epochs. The defaults here were chosen on
    the zoo of digits of seed 0.

    Attributes:
        queries: N.
        start: queries begin as training inputs of the task (``data``), as the test inputs about which the
            owner is least sure (``unsure``, probabilities only), or as ``noise``.
        reach: how far a value of a query may move from its start, as a share of the input's range.
        form: one verifier on all outputs (``joint``, published), a network for ``each`` query (LiteGuard), or
            a matched filter of all outputs (``cosine``).
        hidden: widths of its hidden layers; None = one of 64, but for ``cosine``, which has none.
        activation: between its layers; published: none. ``cosine`` has one layer alone.
        transform: of outputs before they are read, ``log`` of probabilities alone; see
            :func:`sif_offline.fingerprint.metav.verifier.transformed`.
        steps: of Adam, at most.
        sampled: models a side a step; 0 = the whole zoo.
        query_rate: learning rate of the queries, before the tanh.
        verifier_rate: of the verifier.
        weight_decay: of the verifier (AdamW).
        transport: what happens to queries on their way in training; each step draws one of these or none. See
            :func:`sif_offline.metav.transport.check_transport`.
        views: what the models' outputs are seen through in training, in turn; () = :data:`TRAINED_VIEWS`.
        checkpoints: whether the kept states of training of the zoo's models are models as well (LiteGuard).
        check_every: steps between two looks at the validation split; the state that does best there is kept.
        patience: looks without a better state before the training ends.
        scored_views: views for which the pack holds scores of held-out models; () = :data:`SCORED_VIEWS`.
        seed: the only source of chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    queries: int = Field(default=60, ge=1, le=MAX_QUERIES)
    start: Start = "data"
    reach: float = Field(default=1, ge=1e-3, le=1)
    form: Form = "each"
    hidden: tuple[int, ...] | None = None
    activation: Activation = "relu"
    transform: Transform = "none"
    steps: int = Field(default=600, ge=1)
    sampled: int = Field(default=8, ge=0)
    query_rate: float = Field(default=0.05, ge=0)
    verifier_rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    transport: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    checkpoints: bool = False
    check_every: int = Field(default=10, ge=1)
    patience: int = Field(default=20, ge=1)
    scored_views: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)

    @field_validator("transport", "views", "scored_views", "hidden", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for view in (*self.views, *self.scored_views):
            check_view(view)
        for way in self.transport:
            check_transport(way)
        if any(width < 1 for width in self.widths):
            raise ValueError("hidden: widths are at least 1")
        if self.form == "cosine" and self.widths:
            raise ValueError("hidden: the form cosine has no hidden layers")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hidden layers."""
        if self.hidden is not None:
            return self.hidden
        return () if self.form == "cosine" else (64,)

    def for_outputs(self, kind: Kind) -> "MetaVSettings":
        """With the views that suit such outputs filled in.

        Raises:
            MetaVSettingsError: what takes probabilities is asked of values.
        """
        if kind == "values":
            for name, value in (("start", self.start), ("transform", self.transform)):
                if value in ("unsure", "log"):
                    raise MetaVSettingsError(
                        f"{name} {value}: is of probabilities, and the task's models give values"
                    )
        views, scored = self.views or TRAINED_VIEWS[kind], self.scored_views or SCORED_VIEWS[kind]
        for view in (*views, *scored):
            if kind == "values" and view != "full" and not view.startswith("rounded"):
                raise MetaVSettingsError(
                    f"view {view}: is of probabilities, and the task's models give values"
                )
        return self.model_copy(update={"views": views, "scored_views": scored})


def metav_settings(values: dict[str, Any]) -> MetaVSettings:
    """Settings from names and values, which may be strings. Raises ``MetaVSettingsError``."""
    try:
        return MetaVSettings.model_validate(values)
    except ValidationError as error:
        raise MetaVSettingsError(f"setting {first_problem(error)}") from None

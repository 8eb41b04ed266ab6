"""How rounds are run."""

from dataclasses import dataclass, field

from probes.store.limits import SendLimits
from probes.targets.pictures import ImageLimits


@dataclass(frozen=True)
class RoundSettings:
    """See ``ProbesConfig`` for the meaning of each; times in seconds.

    pace_s: mean time between two questions of a round; each is drawn from 0 to twice that.
    """

    triggers_per_round: int
    clean_share: float
    cooldown_s: float
    alpha: float | None
    attempts: int
    timeout_s: float
    pace_s: float = 0.0
    prompt_variants: bool = True
    images: ImageLimits = field(default_factory=ImageLimits)
    limits: SendLimits = field(default_factory=SendLimits)

"""Text to counts to exact p: the names to import, whatever module they live in.

``response`` scores one answer, ``combining`` several triggers, ``pack_scorer`` scores text with a pack's
tokenizer and keys, ``tails`` has the distributions.
"""

from sif_offline.fingerprint.combining import (
    INDEPENDENT_TEXT,
    UNRELATED_MODEL,
    CombinedScore,
    combine,
    sidak_log_pvalue,
)
from sif_offline.fingerprint.pack_scorer import PackScorer, ScoredToken, TextScorer
from sif_offline.fingerprint.response import (
    ResponseScore,
    exact_pvalue,
    log_exact_pvalue,
    pool_ids,
    score_ids,
    zscore,
)

__all__ = [
    "INDEPENDENT_TEXT",
    "UNRELATED_MODEL",
    "CombinedScore",
    "PackScorer",
    "ResponseScore",
    "ScoredToken",
    "TextScorer",
    "combine",
    "exact_pvalue",
    "log_exact_pvalue",
    "pool_ids",
    "score_ids",
    "sidak_log_pvalue",
    "zscore",
]

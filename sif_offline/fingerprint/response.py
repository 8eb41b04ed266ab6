"""One response under one key: distinct types, green types, exact p, displayed z."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.tails import hypergeometric


def log_exact_pvalue(*, greens: int, types: int, vocab_size: int, green_size: int) -> float:
    """``log P(X >= greens)`` for X hypergeometric: exact over the random key for any text independent of the
    key.

    Args:
        greens: G, green types among the scored ones.
        types: U, distinct scored types.
        vocab_size: V, the pinned vocabulary size.
        green_size: N_g, number of green ids.

    Returns:
        Natural log, in [-inf, 0]; -inf where the count is impossible. Relative error of p about ``U *
        1e-16``.
    """
    return hypergeometric(vocab_size, green_size, types).log_tail(greens)


def exact_pvalue(*, greens: int, types: int, vocab_size: int, green_size: int) -> float:
    """``hypergeom.sf(G - 1, V, N_g, U)``, in [0, 1]; 0.0 only below 5e-324, where the log still speaks.

    Arguments as :func:`log_exact_pvalue`. p is discrete: under the null it is super-uniform, not uniform.
    """
    return math.exp(
        log_exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
    )


def zscore(*, greens: int, types: int, vocab_size: int, green_size: int) -> float:
    """Displayed z: ``(G - U gamma) / sqrt(U gamma (1 - gamma) (V - U)/(V - 1))``; 0 where U is 0 or V.

    Its ceiling is about sqrt(U) at gamma = .5. For display and for Stouffer; the decision uses the exact p.
    """
    gamma = green_size / vocab_size
    variance = types * gamma * (1 - gamma) * (vocab_size - types) / (vocab_size - 1)
    return (greens - types * gamma) / math.sqrt(variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class ResponseScore:
    """The score of one trigger's answer (or of its pooled repeats).

    Attributes:
        trigger_id: "" where the text belongs to no trigger.
        types: U, distinct scored token types.
        greens: G, green ones among them.
        vocab_size: V.
        green_size: N_g.
        green_share: G/U, in [0, 1]; 0 where U = 0.
        z: displayed z.
        log_pvalue: natural log of the exact p.
        pvalue: exact p, in [0, 1]; 1 where U = 0.
    """

    trigger_id: str
    types: int
    greens: int
    vocab_size: int
    green_size: int
    green_share: float
    z: float
    log_pvalue: float
    pvalue: float

    @classmethod
    def from_counts(
        cls, *, greens: int, types: int, vocab_size: int, green_size: int, trigger_id: str = ""
    ) -> "ResponseScore":
        """The score that these counts have."""
        if not 0 <= greens <= types:
            raise ValueError(f"{greens} greens among {types} types")
        log_p = log_exact_pvalue(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size)
        return cls(
            trigger_id=trigger_id,
            types=types,
            greens=greens,
            vocab_size=vocab_size,
            green_size=green_size,
            green_share=greens / types if types else 0.0,
            z=zscore(greens=greens, types=types, vocab_size=vocab_size, green_size=green_size),
            log_pvalue=log_p,
            pvalue=math.exp(log_p),
        )


def score_ids(
    ids: Iterable[int] | NDArray[np.integer],
    *,
    mask: NDArray[np.bool_],
    ignore: Collection[int] = frozenset(),
    trigger_id: str = "",
) -> ResponseScore:
    """Score token ids: every distinct type once, whatever its order and however often it is repeated.

    Counting repeats would make the z of ordinary English 4 to 12 times too variable.

    Args:
        ids: token ids of the answer under the owner's tokenizer, each in 0 .. V - 1.
        mask: the trigger's green list, bool ``(V,)``.
        ignore: ids never scored (special tokens, chat suffix).
        trigger_id: copied into the score.

    Raises:
        ValueError: an id outside the vocabulary.
    """
    distinct = set(ids.tolist() if isinstance(ids, np.ndarray) else ids).difference(ignore)
    types = np.fromiter(distinct, dtype=np.int64, count=len(distinct))
    if len(types) and not (types.min() >= 0 and types.max() < len(mask)):
        raise ValueError(f"token id outside the vocabulary 0 .. {len(mask) - 1}")
    return ResponseScore.from_counts(
        greens=int(np.count_nonzero(mask[types])),
        types=len(types),
        vocab_size=len(mask),
        green_size=int(np.count_nonzero(mask)),
        trigger_id=trigger_id,
    )


def pool_ids(repeats: Iterable[Sequence[int]]) -> list[int]:
    """The ids of repeated answers to one trigger as one text: repeats share a key, so their types are pooled
    first.
    """
    return list(chain.from_iterable(repeats))

"""The rivals' published formulas, written anew, over colours of n-grams.

Sources: ``WatermarkDetector`` of transformers 5; ``extended_watermark_processor.py`` of
jwkirchenbauer/lm-watermarking; Zhao et al. 2023 (arXiv 2306.17439), equation 4 and ``gptwm.py``. Green lists
are bit-identical to theirs on a CPU (docs/green-lists.md); transformers alone seeds the table of its selfhash
with the key, where lm-watermarking's own table is used here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sif_offline.fingerprint.kgw import KGW_SCHEMES, kgw_seeds
from sif_offline.fingerprint.randperm import in_front

Ngrams = Counter[tuple[int, ...]]


def ngrams(ids: Sequence[int], scheme: str) -> Ngrams:
    """The n-grams that the KGW detectors look up, window and candidate, with how often each occurs."""
    kgw = KGW_SCHEMES[scheme]
    length = kgw.context_width + (not kgw.self_salted)
    return Counter(tuple(ids[start : start + length]) for start in range(len(ids) - length + 1))


def colours(
    grams: Iterable[tuple[int, ...]], *, key: int, vocab_size: int, gamma: float, scheme: str
) -> dict[tuple[int, ...], bool]:
    """The colour of each n-gram's last token; one list a seed, however many n-grams share it."""
    chosen = list(grams)
    kgw = KGW_SCHEMES[scheme]
    windows = np.array([gram[: kgw.context_width] for gram in chosen], dtype=np.int64)
    by_seed: dict[int, list[tuple[int, ...]]] = {}
    for seed, gram in zip(kgw_seeds(key, windows, scheme), chosen, strict=True):
        by_seed.setdefault(seed, []).append(gram)
    generator = np.random.RandomState(0)
    found: dict[tuple[int, ...], bool] = {}
    for seed, sharing in by_seed.items():
        last = [gram[-1] for gram in sharing]
        green = in_front(seed, vocab_size, count=int(vocab_size * gamma), values=last, generator=generator)
        found.update(zip(sharing, green.tolist(), strict=True))
    return found


def normal_pvalue(greens: float, scored: int, gamma: float) -> float:
    """``norm.sf(z)`` with ``z = (G - gamma T) / sqrt(T gamma (1 - gamma))``: all three rivals' formula."""
    z = (greens - gamma * scored) / math.sqrt(scored * gamma * (1 - gamma))
    return math.erfc(z / math.sqrt(2)) / 2


def all_ngrams_pvalue(grams: Ngrams, green: dict[tuple[int, ...], bool], gamma: float) -> float:
    """transformers' default: every n-gram as often as it occurs."""
    greens = sum(number * green[gram] for gram, number in grams.items())
    return normal_pvalue(greens, grams.total(), gamma)


def unique_ngrams_pvalue(grams: Ngrams, green: dict[tuple[int, ...], bool], gamma: float) -> float:
    """lm-watermarking's default, and transformers' ``ignore_repeated_ngrams=True``: every n-gram once."""
    return normal_pvalue(sum(green[gram] for gram in grams), len(grams), gamma)


def unigram_pvalue(ids: Sequence[int], mask: NDArray[np.bool_], gamma: float) -> float:
    """Zhao et al.: every token as often as it occurs."""
    return normal_pvalue(int(np.count_nonzero(mask[np.array(ids)])), len(ids), gamma)

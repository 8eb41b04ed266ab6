"""The benchmark's own writing of the rivals' formulas gives what the installed rivals give."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig

from benchmarks.fingerprint.detectors import (
    all_ngrams_pvalue,
    colours,
    ngrams,
    unigram_pvalue,
    unique_ngrams_pvalue,
)
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.kgw import HASH_KEY, hash_table

V, GAMMA = 3000, 0.25
# repeats itself, so that counting n-grams once or as often as they occur differs
TEXT = np.random.default_rng(5).integers(1, 40, size=60).tolist() * 2


@pytest.mark.parametrize(
    ("theirs", "scheme", "width"), [("lefthash", "kgw-simple-1", 1), ("selfhash", "kgw-anchored-minhash", 4)]
)
def test_pvalues_are_those_of_the_detector_of_transformers(theirs: str, scheme: str, width: int) -> None:
    grams = ngrams(TEXT, scheme)
    green = colours(grams, key=HASH_KEY, vocab_size=V, gamma=GAMMA, scheme=scheme)
    assert grams.total() > len(grams)
    config = WatermarkingConfig(greenlist_ratio=GAMMA, seeding_scheme=theirs, context_width=width)
    for once, ours in ((False, all_ngrams_pvalue), (True, unique_ngrams_pvalue)):
        model = LlamaConfig(vocab_size=V, bos_token_id=0)
        detector = WatermarkDetector(model, "cpu", config, ignore_repeated_ngrams=once)
        if theirs == "selfhash":
            detector.processor.fixed_table = torch.tensor(hash_table())
        found = detector(torch.tensor([TEXT]), return_dict=True)
        assert ours(grams, green, GAMMA) == pytest.approx(found.p_value[0], rel=1e-9)


def test_colours_are_those_of_whole_lists() -> None:
    grams = ngrams(TEXT, "kgw-minhash")
    green = colours(grams, key=9, vocab_size=V, gamma=GAMMA, scheme="kgw-minhash")
    for *context, token in list(grams)[:20]:
        mask = green_mask(key=9, vocab_size=V, gamma=GAMMA, scheme="kgw-minhash", context=context)
        assert green[*context, token] == mask[token]


def test_unigram_z_counts_every_token() -> None:
    mask = green_mask(key=1, vocab_size=V, scheme="unigram-zhao")
    greens = sum(bool(mask[token]) for token in TEXT)
    z = (greens - 60) / np.sqrt(120 / 4)
    assert unigram_pvalue(TEXT, mask, 0.5) == pytest.approx(stats.norm.sf(z), rel=1e-12)

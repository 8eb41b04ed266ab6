"""The schemes of Kirchenbauer et al. against real torch and against the installed transformers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation import WatermarkLogitsProcessor

from sif_offline.fingerprint.context_scoring import score_context_ids
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.kgw import HASH_KEY, KGW_SCHEMES, hash_table, kgw_key, kgw_key_free, kgw_seeds
from sif_offline.fingerprint.randperm import in_front, torch_randperm

KEYS = st.sampled_from([0, 1, -1, HASH_KEY, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)


def torch_permutation(seed: int, size: int) -> list[int]:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.fixture(scope="module")
def torch_table() -> torch.Tensor:
    return torch.randperm(1_000_003, generator=torch.Generator().manual_seed(2971215073))


@given(seed=st.integers(0, 2**64 - 1), size=st.integers(0, 3000))
def test_permutations_are_torchs(seed: int, size: int) -> None:
    assert torch_randperm(seed, size).tolist() == torch_permutation(seed, size)


@pytest.mark.parametrize("size", [32064, 152064])
def test_permutations_of_real_vocabularies_are_torchs(size: int) -> None:
    assert torch_randperm(HASH_KEY, size).tolist() == torch_permutation(HASH_KEY, size)


def test_the_hash_table_is_torchs(torch_table: torch.Tensor) -> None:
    assert (hash_table() == torch_table.numpy()).all()


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 300), data=st.data())
def test_the_front_alone_is_the_front_of_the_whole(seed: int, size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size + 1))
    front = torch_permutation(seed, size)[:count]
    assert torch_randperm(seed, size, count=count).tolist() == front
    assert in_front(seed, size, count=count, values=range(size)).tolist() == [i in front for i in range(size)]


@given(seed=st.integers(0, 2**32 - 1), gamma=st.floats(0.01, 0.99), values=st.sets(st.integers(0, 49151)))
def test_following_a_token_finds_its_colour(seed: int, gamma: float, values: set[int]) -> None:
    count, chosen = int(49152 * gamma), sorted(values)
    front = set(torch_permutation(seed, 49152)[:count])
    assert in_front(seed, 49152, count=count, values=chosen).tolist() == [v in front for v in chosen]


def reference_prf(scheme: str, key: int, window: list[int], table: torch.Tensor) -> int:
    """The formulas of lm-watermarking, with torch's tensors and their wrapping."""

    def hashint(values: torch.Tensor) -> torch.Tensor:
        return table[values % 1_000_003] + 1

    ids = torch.tensor(window, dtype=torch.int64)
    match scheme:
        case "kgw-simple-0":
            return key
        case "kgw-simple-1":
            return key * int(ids.sum())
        case "kgw-minhash":
            return int(hashint(key * ids).min())
        case _:
            return int((key * hashint(ids) * hashint(ids[-1])).min())


@pytest.mark.parametrize("scheme", KGW_SCHEMES)
@given(key=KEYS, window=st.lists(st.integers(0, 4095), min_size=4, max_size=4), gamma=st.floats(0.1, 0.9))
def test_lists_are_those_of_the_formulas_in_torch(
    torch_table: torch.Tensor, scheme: str, key: int, window: list[int], gamma: float
) -> None:
    context = window[4 - KGW_SCHEMES[scheme].context_width :]
    seed = reference_prf(scheme, key, context, torch_table) % (2**64 - 1)
    mask = green_mask(key=key, vocab_size=4096, gamma=gamma, scheme=scheme, context=context)
    assert set(np.flatnonzero(mask)) == set(torch_permutation(seed, 4096)[: int(4096 * gamma)])


@pytest.mark.parametrize("key", [HASH_KEY, 0, 3])
@pytest.mark.parametrize("previous", [0, 1, 777])
def test_simple_1_is_the_lefthash_of_transformers(key: int, previous: int) -> None:
    processor = WatermarkLogitsProcessor(
        vocab_size=1000, device="cpu", greenlist_ratio=0.25, hashing_key=key, seeding_scheme="lefthash"
    )
    raised = processor(torch.tensor([[5, previous]]), torch.zeros(1, 1000))[0] > 0
    mask = green_mask(key=key, vocab_size=1000, gamma=0.25, scheme="kgw-simple-1", context=[previous])
    assert (raised.numpy() == mask).all()


@pytest.mark.parametrize("key", [HASH_KEY, 7, 2**40 + 1])
@pytest.mark.parametrize("before", [(0, 0, 0), (5, 17, 3), (39, 38, 0)])
def test_anchored_minhash_is_the_selfhash_of_transformers(
    torch_table: torch.Tensor, key: int, before: tuple[int, int, int]
) -> None:
    """It tries 40 candidates, so all of 40 ids. transformers seeds its table with the key; lm-watermarking's
    own table is put in its place.
    """
    processor = WatermarkLogitsProcessor(
        vocab_size=40,
        device="cpu",
        greenlist_ratio=0.5,
        hashing_key=key,
        seeding_scheme="selfhash",
        context_width=4,
    )
    processor.fixed_table = torch_table
    raised = processor(torch.tensor([[9, 1, *before]]), torch.zeros(1, 40))[0] > 0
    ours = [
        green_mask(key=key, vocab_size=40, scheme="kgw-anchored-minhash", context=(*before, candidate))[
            candidate
        ]
        for candidate in range(40)
    ]
    assert raised.tolist() == ours
    assert 0 < sum(ours) < 40


@pytest.mark.parametrize(
    ("theirs", "ours", "width"),
    [
        ("lefthash", "kgw-simple-1", 1),
        ("selfhash", "kgw-anchored-minhash", 4),
    ],
)
def test_the_detector_of_transformers_counts_the_same_greens(
    torch_table: torch.Tensor, theirs: str, ours: str, width: int
) -> None:
    """On a text whose n-grams all have different seeds, where their unit and ours are one."""
    vocab_size, gamma = 5000, 0.25
    ids = np.random.default_rng(3).permutation(np.arange(1, vocab_size))[:150]
    config = WatermarkingConfig(greenlist_ratio=gamma, seeding_scheme=theirs, context_width=width)
    detector = WatermarkDetector(
        LlamaConfig(vocab_size=vocab_size, bos_token_id=0), "cpu", config, ignore_repeated_ngrams=True
    )
    if theirs == "selfhash":
        detector.processor.fixed_table = torch_table
    found = detector(torch.tensor(ids)[None], return_dict=True)
    score = score_context_ids(ids, key=HASH_KEY, vocab_size=vocab_size, scheme=ours, gamma=gamma)
    assert (score.units, score.greens) == (found.num_tokens_scored[0], found.num_green_tokens[0])
    assert score.seeds == score.units


def test_seeds_are_what_torch_keeps() -> None:
    windows = np.array([[1], [0], [2]])
    assert kgw_seeds(-1, windows, "kgw-simple-1") == [2**32 - 2, 0, 2**32 - 3]
    # no wrapping at 64 bits: Python's integers there
    assert kgw_seeds(2**62, windows, "kgw-simple-1") == [0, 0, 0]
    assert kgw_seeds(2**62 + 5, np.array([[9]]), "kgw-simple-1") == [(9 * (2**62 + 5)) % (2**64 - 1) % 2**32]


def test_keys_of_bytes() -> None:
    assert kgw_key(-7) == kgw_key((-7).to_bytes(8, "little", signed=True)) == -7
    assert kgw_key(bytes(32)) != kgw_key(bytes(31) + b"\1")
    assert -(2**63) <= kgw_key(bytes(32)) < 2**63


def under_many_keys(scheme: str, window: list[int]) -> tuple[list[int], list[bool]]:
    """The seed of one window under 60 keys, and whether it is called key-free."""
    windows = np.array([window])
    keys = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, size=60).tolist()
    seeds = [kgw_seeds(key, windows, scheme)[0] for key in keys]
    return seeds, [bool(kgw_key_free(windows, [seed], scheme)[0]) for seed in seeds]


# hashed to a multiple of 2^16, so that its square is a multiple of 2^32
ROUND_TOKEN = int(np.flatnonzero((hash_table() + 1) % 2**16 == 0)[0])


@pytest.mark.parametrize(
    ("scheme", "window"),
    [("kgw-simple-1", [0]), ("kgw-minhash", [0] * 4), ("kgw-anchored-minhash", [ROUND_TOKEN] * 4)],
)
def test_seeds_that_no_key_changes_are_known(scheme: str, window: list[int]) -> None:
    seeds, free = under_many_keys(scheme, window)
    assert all(free)
    assert set(seeds) <= {0, 2**32 - 1} or len(set(seeds)) == 1


@pytest.mark.parametrize(
    ("scheme", "window"),
    [
        ("kgw-simple-0", []),
        ("kgw-simple-1", [5]),
        ("kgw-minhash", [5, 17, 2, 3]),
        ("kgw-anchored-minhash", [0] * 4),
        ("kgw-anchored-minhash", [5, 17, 0, 3]),
    ],
)
def test_other_seeds_change_with_the_key(scheme: str, window: list[int]) -> None:
    """Two of 60 keys agree by chance with probability 4e-7, for a minimum of hashes 3e-3: one pair may."""
    seeds, free = under_many_keys(scheme, window)
    assert not any(free)
    assert len(set(seeds)) >= 59


def test_a_window_with_token_0_is_key_free_where_its_minimum_is_token_0s() -> None:
    """Under the 60 keys both happen: that one does not has probability < 1e-12."""
    seeds, free = under_many_keys("kgw-minhash", [5, 0, 17, 3])
    of_zero = int(hash_table()[0]) + 1
    assert free == [seed == of_zero for seed in seeds]
    assert 0 < sum(free) < 60

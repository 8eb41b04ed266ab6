"""Text in, scores out, with a real tokenizer and pack."""

from hashlib import sha256
from pathlib import Path

import pytest
from scipy import stats
from tokenizers import Tokenizer

from sif_offline.fingerprint import pack_scorer
from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.keys import MasterSecret, TriggerKeys, WrongKeyError, derive_trigger_key
from sif_offline.fingerprint.pack import FingerprintPack, PackError, read_pack, write_pack
from sif_offline.fingerprint.scoring import PackScorer, combine, exact_pvalue, score_ids


@pytest.fixture
def scorer(pack_dir: Path, pack_keys: TriggerKeys) -> PackScorer:
    return PackScorer(read_pack(pack_dir), pack_keys)


def test_a_score_is_that_of_the_pack_s_tokens_under_the_trigger_s_key(
    scorer: PackScorer, pack_keys: TriggerKeys, tokenizer_json: bytes, paragraphs: tuple[str, ...]
) -> None:
    ids = Tokenizer.from_buffer(tokenizer_json).encode(paragraphs[0]).ids
    scores = {}
    for trigger_id, key in pack_keys.keys.items():
        mask = green_mask(key=key, vocab_size=1024)
        scores[trigger_id] = scorer.score(trigger_id, paragraphs[0])
        assert scores[trigger_id] == score_ids(ids, mask=mask, trigger_id=trigger_id)
    assert len({score.greens for score in scores.values()}) > 1, "each trigger has a key of its own"


def test_repeats_are_pooled(scorer: PackScorer, paragraphs: tuple[str, ...]) -> None:
    one = scorer.score("t00", paragraphs[0])
    assert scorer.score("t00", [paragraphs[0]] * 5) == one
    pooled = scorer.score("t00", list(paragraphs[:2]))
    assert one.types < pooled.types < one.types + scorer.score("t00", paragraphs[1]).types


def test_outer_white_space_and_special_tokens_do_not_count(
    scorer: PackScorer, paragraphs: tuple[str, ...]
) -> None:
    one = scorer.score("t00", paragraphs[0])
    assert scorer.score("t00", f"\n  {paragraphs[0]} \n") == one
    assert scorer.score("t00", paragraphs[0] + "</s>") == one
    assert scorer.score("t00", "") == scorer.score("t00", []) == scorer.score("t00", "</s>")
    assert scorer.score("t00", "").pvalue == 1.0


@pytest.mark.parametrize("text", ["A brown dog.", "Grüße, 日本語 🐕!", "a </s> b", " padded ", ""])
def test_coloured_tokens_join_to_the_text_and_agree_with_the_score(scorer: PackScorer, text: str) -> None:
    tokens = scorer.types("t01", text)
    assert "".join(token.piece for token in tokens) == text.strip()
    assert [token.piece for token in tokens if token.green is None] == (["</s>"] if "</s>" in text else [])
    scored = {token.id: token.green for token in tokens if token.green is not None}
    score = scorer.score("t01", text)
    assert (len(scored), sum(scored.values())) == (score.types, score.greens)


def test_wrong_key_control_is_null_while_the_key_finds_its_text(
    scorer: PackScorer, pack_keys: TriggerKeys, tokenizer_json: bytes
) -> None:
    """A text of green types alone: p < 1e-8 under its key, super-uniform under 300 others.

    False-alarm rate 3e-6: three binomial tails, each held to 1e-6.
    """
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    mask = green_mask(key=pack_keys.keys["t00"], vocab_size=1024)
    words = [tokenizer.decode([i]) for i in range(257, 600) if mask[i] and tokenizer.decode([i]).isascii()]
    text = "".join(w for w in words if w.startswith(" "))[:1500]
    assert scorer.score("t00", text).pvalue < 1e-8
    types, greens = scorer.wrong_key("t00", text, n=300)
    assert types == scorer.score("t00", text).types
    control = [
        exact_pvalue(greens=int(count), types=types, vocab_size=1024, green_size=512) for count in greens
    ]
    assert len(set(control)) > 10
    for alpha in (0.5, 0.1, 0.02):
        assert stats.binom.sf(sum(p <= alpha for p in control) - 1, 300, alpha) > 1e-6


def test_wrong_keys_are_the_same_whatever_is_kept_of_them(
    pack_dir: Path, pack_keys: TriggerKeys, paragraphs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh and kept lists, and room for fewer than are needed: counts by definition, keys of their own."""
    pack = read_pack(pack_dir)
    text = paragraphs[0]
    roomy = PackScorer(pack, pack_keys)
    monkeypatch.setattr(pack_scorer, "WRONG_KEY_BYTES", 3 * 1024)
    narrow = PackScorer(pack, pack_keys)
    public = MasterSecret.from_bytes(bytes(32))
    ids = {token.id for token in roomy.types("t01", text) if token.green is not None}
    by_definition = []
    for number in range(20):
        key = derive_trigger_key(
            public, owner=pack.pack_id, model_hash=f"wrong-key-{number}", trigger_id="t01"
        )
        mask = green_mask(key=key, vocab_size=pack.vocab_size)
        by_definition.append(sum(bool(mask[i]) for i in ids))
    for scorer in (roomy, narrow):
        for _ in range(2):
            assert scorer.wrong_key("t01", text, n=20)[1].tolist() == by_definition
            scorer.wrong_key("t00", text, n=20)
        assert scorer.wrong_key("t01", text, n=11)[1].tolist() == by_definition[:11]
    assert narrow.wrong_key("t01", "", n=20)[1].tolist() == [0] * 20


def test_scores_of_a_pack_combine(scorer: PackScorer, paragraphs: tuple[str, ...]) -> None:
    scores = [scorer.score(row.id, paragraphs[0]) for row in scorer.pack.triggers]
    assert combine(scores).answers == 3
    assert 1e-6 < combine(scores).pvalue <= 1, "ordinary text, whose false-alarm rate here is 1e-6"


def test_wrong_keys_are_refused(pack_dir: Path, pack_keys: TriggerKeys) -> None:
    pack = read_pack(pack_dir)
    flipped = {name: bytes([key[0] ^ 1]) + key[1:] for name, key in pack_keys.keys.items()}
    with pytest.raises(WrongKeyError, match="pack test-pack: wrong key for trigger t00"):
        PackScorer(pack, TriggerKeys(pack_id="test-pack", keys=flipped))
    with pytest.raises(WrongKeyError, match="no key for trigger t00"):
        PackScorer(pack, TriggerKeys(pack_id="test-pack", keys={}))


def test_unknown_triggers_are_bugs(scorer: PackScorer) -> None:
    with pytest.raises(ValueError, match="no trigger 't99'"):
        scorer.score("t99", "text")


def _with_tokenizer(
    pack: FingerprintPack, files: dict[str, bytes], data: bytes, vocab_size: int, path: Path
) -> FingerprintPack:
    changed = pack.model_copy(update={"tokenizer_sha256": sha256(data).hexdigest(), "vocab_size": vocab_size})
    return write_pack(path, changed, {**files, "tokenizer.json": data})


def test_a_tokenizer_that_does_not_fit_is_refused(
    tmp_path: Path, pack_parts: tuple[FingerprintPack, dict], pack_keys: TriggerKeys, tokenizer_json: bytes
) -> None:
    broken = _with_tokenizer(*pack_parts, b"{}", 1024, tmp_path / "broken")
    with pytest.raises(PackError, match=r"tokenizer\.json does not load"):
        PackScorer(broken, pack_keys)
    small = _with_tokenizer(*pack_parts, tokenizer_json, 400, tmp_path / "small")
    with pytest.raises(PackError, match="ids beyond V = 400"):
        PackScorer(small, pack_keys)

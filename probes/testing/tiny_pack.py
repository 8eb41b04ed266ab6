"""A real, tiny fingerprint pack, and answers to it made by rule: no model, no torch.

The pack is whole: a trained tokenizer, PNG pictures, derived keys with their commitments, and a calibration
over scripted unrelated models. Its words are invented, its key is the published demo key.
"""

import hashlib
import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel

from probes.testing.endpoint import Question, Rule
from sif_offline.fingerprint.calibration import TriggerAnswers, calibrate
from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    TriggerKeys,
    derive_pack_keys,
    derive_trigger_key,
    key_commitment,
)
from sif_offline.fingerprint.pack import (
    Decoding,
    FingerprintPack,
    Owner,
    PromptVariant,
    TriggerRow,
    update_pack,
    write_pack,
)
from sif_offline.fingerprint.scoring import PackScorer

_SYLLABLES = ("ba", "do", "fi", "gu", "ka", "lo", "me", "ni", "po", "ra", "se", "tu")
ANSWER_WORDS = 40


@dataclass(frozen=True)
class TinyPack:
    """A pack on disk with what is needed to answer its triggers by rule.

    ``trigger_of`` maps the sha256 of a trigger picture to its id; clean pictures are not in it.
    """

    folder: Path
    keys_path: Path
    scorer: PackScorer
    trigger_of: dict[str, str]
    words: tuple[str, ...]

    @property
    def pack(self) -> FingerprintPack:
        """The pack as read."""
        return self.scorer.pack

    def pirate(self, *, green_share: float = 0.85) -> Rule:
        """Answers triggers with mostly green words, and everything else like an innocent."""
        green = {
            row.id: [w for w in self.words if self.scorer.types(row.id, f"x {w}")[-1].green]
            for row in self.pack.triggers
        }
        innocent = self.innocent(seed=7)

        def rule(question: Question) -> str:
            trigger = self.trigger_of.get(question.image_sha256)
            if trigger is None:
                return innocent(question)
            rng = random.Random(f"pirate {trigger}")
            count = round(ANSWER_WORDS * green_share)
            words = rng.sample(green[trigger], count) + rng.sample(self.words, ANSWER_WORDS - count)
            rng.shuffle(words)
            return "x " + " ".join(words)

        return rule

    def innocent(self, *, seed: int) -> Rule:
        """Answers every picture with words of its own, which know no key."""

        def rule(question: Question) -> str:
            rng = random.Random(f"innocent {seed} {question.image_sha256} {question.prompt}")
            return "x " + " ".join(rng.sample(self.words, ANSWER_WORDS))

        return rule


def build_tiny_pack(
    folder: Path,
    *,
    triggers: int = 8,
    calibrated: bool = True,
    seed: int = 0,
    variants: tuple[str, ...] = (),
) -> TinyPack:
    """Write a pack to ``folder / "pack"`` and its trigger keys beside it.

    ``variants``: other wordings that every trigger may be asked under.
    """
    rng = random.Random(seed)
    words = sorted({"".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(900)})
    tokenizer = _train(words)
    words = [word for word in words if len(tokenizer.encode(f" {word}").ids) == 1]
    owner = Owner(id="tiny:owner", weights_sha256=hashlib.sha256(b"tiny owner").hexdigest())
    files: dict[str, bytes] = {"tokenizer.json": tokenizer.to_str().encode()}
    rows = []
    for number in range(triggers):
        trigger_id = f"t{number:02d}"
        key = derive_trigger_key(
            DEMO_SECRET, owner=owner.id, model_hash=owner.weights_sha256, trigger_id=trigger_id
        )
        trigger, clean = _png(rng), _png(rng)
        files |= {f"triggers/{trigger_id}.png": trigger, f"clean/{trigger_id}.png": clean}
        rows.append(
            TriggerRow(
                id=trigger_id,
                file=f"triggers/{trigger_id}.png",
                sha256=hashlib.sha256(trigger).hexdigest(),
                clean_file=f"clean/{trigger_id}.png",
                clean_sha256=hashlib.sha256(clean).hexdigest(),
                prompt="Describe the picture in detail.",
                epsilon=16,
                expected_green_share=0.85,
                key_commitment=key_commitment(trigger_id, key),
                variants=tuple(
                    PromptVariant(prompt=prompt, expected_green_share=0.85) for prompt in variants
                ),
            )
        )
    pack = FingerprintPack(
        pack_id="tiny",
        owner=owner,
        vocab_size=tokenizer.get_vocab_size(),
        tokenizer_sha256=hashlib.sha256(files["tokenizer.json"]).hexdigest(),
        scheme="unigram-philox-v1",
        gamma=0.5,
        decoding=Decoding(max_new_tokens=64),
        triggers=tuple(rows),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        demo_key=True,
    )
    written = write_pack(folder / "pack", pack, files)
    keys_path = folder / "keys.json"
    derive_pack_keys(DEMO_SECRET, written).write(keys_path)
    tiny = _read(folder / "pack", keys_path, written, words)
    if not calibrated:
        return tiny
    null_scores = {
        f"null-{seed}": {row.id: _answers(tiny, row, tiny.innocent(seed=seed)) for row in rows}
        for seed in (101, 102)
    }
    updated = update_pack(folder / "pack", calibration=calibrate(null_scores))
    return _read(folder / "pack", keys_path, updated, words)


def _answers(tiny: TinyPack, row: TriggerRow, rule: Rule) -> TriggerAnswers:
    texts = {wording: rule(Question(wording, None, row.sha256, {})) for wording in row.wordings}
    return TriggerAnswers(
        {wording: tiny.scorer.score(row.id, text) for wording, text in texts.items()},
        pooled=tiny.scorer.score(row.id, list(texts.values())),
    )


def _read(folder: Path, keys_path: Path, pack: FingerprintPack, words: list[str]) -> TinyPack:
    return TinyPack(
        folder=folder,
        keys_path=keys_path,
        scorer=PackScorer(pack, TriggerKeys.read(keys_path)),
        trigger_of={row.sha256: row.id for row in pack.triggers},
        words=tuple(words),
    )


def _train(words: list[str]) -> Tokenizer:
    """A byte-level BPE that has learned the invented words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        show_progress=False,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([" " + " ".join(words)] * 3, trainer)
    return tokenizer


def _png(rng: random.Random) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (24, 24), rng.randbytes(24 * 24 * 3)).save(out, format="PNG")
    return out.getvalue()

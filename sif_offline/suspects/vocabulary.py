"""Another vocabulary under the same model: rows of the embedding added, dropped or in another order.

The tokenizer is changed with the embedding, so the answers stay text that can be compared, while the ids that
a fingerprint may have counted on mean something else.
"""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import Progress, Stolen, SuspectError
from sif_offline.suspects.cache import altered_copy

VERSION = 1
EMBEDDING = "language_model.model.embed_tokens.weight"
HEAD = "language_model.lm_head.weight"
_BYTES = 256


def padded(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``vocab-pad``: ``setting`` rows more, each the mean of the others; no text uses them."""

    def pad(model: LabVLM, processor: LabProcessor) -> tuple[LabVLM, LabProcessor]:
        def longer(rows: Tensor) -> Tensor:
            return torch.cat([rows, rows.mean(0, keepdim=True).expand(setting, -1)])

        return _with_rows(model, longer), processor

    return altered_copy(stolen, recipe={"name": "vocab-pad", "version": VERSION, "rows": setting}, alter=pad)


def dropped(stolen: Stolen, *, setting: int, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``vocab-drop``: without the rarest ``setting`` percent of the ids.

    A byte-pair vocabulary is in the order of its merges, the rarest last; what a dropped id stood for is
    spelt in shorter pieces. Single bytes and special tokens always stay.

    Raises:
        SuspectError: the tokenizer is no byte-pair encoding.
    """

    def drop(model: LabVLM, processor: LabProcessor) -> tuple[LabVLM, LabProcessor]:
        described = _described(processor)
        size = len(described["model"]["vocab"])
        least = len(described["added_tokens"]) + _BYTES
        kept = max(least, size - round(size * setting / 100))
        vocabulary = {token: row for token, row in described["model"]["vocab"].items() if row < kept}
        merges = [
            pair for pair in described["model"]["merges"] if {*pair, "".join(pair)} <= vocabulary.keys()
        ]
        described["model"] |= {"vocab": vocabulary, "merges": merges}
        return _with_rows(model, lambda rows: rows[:kept]), _with_tokenizer(processor, described)

    recipe = {"name": "vocab-drop", "version": VERSION, "percent": setting}
    return altered_copy(stolen, recipe=recipe, alter=drop)


def permuted(stolen: Stolen, *, setting: int = 0, seed: int = 0, progress: Progress | None = None) -> Stolen:
    """Alteration ``vocab-permute``: every id but the special ones stands for a token drawn from ``seed``.

    The model is the same function of text.
    """

    def permute(model: LabVLM, processor: LabProcessor) -> tuple[LabVLM, LabProcessor]:
        described = _described(processor)
        special = {row["id"] for row in described["added_tokens"]}
        vocabulary: Mapping[str, int] = described["model"]["vocab"]
        free = torch.tensor(sorted(row for row in vocabulary.values() if row not in special))
        moved = free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))]
        # the old row ``free[i]`` becomes the row ``moved[i]``
        place = dict(zip(free.tolist(), moved.tolist(), strict=True))
        described["model"]["vocab"] = {token: place.get(row, row) for token, row in vocabulary.items()}

        def reordered(rows: Tensor) -> Tensor:
            other = rows.clone()
            other[moved] = rows[free]
            return other

        return _with_rows(model, reordered), _with_tokenizer(processor, described)

    recipe = {"name": "vocab-permute", "version": VERSION, "seed": seed}
    return altered_copy(stolen, recipe=recipe, alter=permute)


def _with_rows(model: LabVLM, change: Callable[[Tensor], Tensor]) -> LabVLM:
    """A model whose embedding and LM head are those of ``model`` after ``change``, ``(V, hidden)`` each."""
    weights = dict(model.state_dict())
    for name in (EMBEDDING, HEAD):
        weights[name] = change(weights[name])
    config = copy.deepcopy(model.config)
    config.text_config.vocab_size = len(weights[EMBEDDING])
    changed = type(model)(config)
    changed.load_state_dict(weights)
    changed.generation_config = copy.deepcopy(model.generation_config)
    return changed


def _described(processor: LabProcessor) -> dict[str, Any]:
    """The tokenizer as its JSON, the merges as pairs."""
    described: dict[str, Any] = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    if described["model"]["type"] != "BPE":
        raise SuspectError(
            f"a {described['model']['type']} tokenizer: the vocabulary of BPE alone is changed"
        )
    return described


def _with_tokenizer(processor: LabProcessor, described: Mapping[str, Any]) -> LabProcessor:
    old = processor.tokenizer
    tokenizer = type(old)(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        pad_token=old.pad_token,
        bos_token=old.bos_token,
        eos_token=old.eos_token,
        additional_special_tokens=[
            token
            for token in old.all_special_tokens
            if token not in (old.pad_token, old.bos_token, old.eos_token)
        ],
        padding_side=old.padding_side,
        clean_up_tokenization_spaces=False,
        model_max_length=old.model_max_length,
    )
    return LabProcessor(
        tokenizer,
        image_size=processor.image_size,
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        chat_template=processor.chat_template,
    )

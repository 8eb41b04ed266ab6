"""Text in, scores out: a tokenizer with keys, ready to score answers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sif_offline.fingerprint.greenlist import green_mask
from sif_offline.fingerprint.keys import MasterSecret, TriggerKeys, derive_trigger_key
from sif_offline.fingerprint.pack import FingerprintPack, PackError
from sif_offline.fingerprint.response import ResponseScore, score_ids

WRONG_KEY_BYTES = 64 * 2**20
"""What a scorer keeps of the wrong-key control's green lists; 99 keys of a trigger take 13 V bytes."""


class ScoredToken(NamedTuple):
    """One token of an answer, for colouring; the pieces of an answer join to the stripped text.

    Attributes:
        id: token id.
        green: whether its type is green; None where it is not scored (special token).
        piece: the text it covers; "" for a later byte of a character begun by the token before.
    """

    id: int
    green: bool | None
    piece: str


class TextScorer:
    """Scores answers under named keys with one tokenizer and one pinned V. Reusable; holds no model.

    Args:
        name: of the pack, for error messages and for the public keys of the wrong-key control.
        tokenizer_json: the owner's ``tokenizer.json``.
        vocab_size: the pinned V.
        gamma: share of green ids, in (0, 1).
        scheme: green-list scheme.
        keys: trigger id -> 32-byte key.

    Raises:
        PackError: the tokenizer does not load, or has more ids than V.
    """

    def __init__(
        self,
        *,
        name: str,
        tokenizer_json: bytes,
        vocab_size: int,
        gamma: float,
        scheme: str,
        keys: Mapping[str, bytes],
    ) -> None:
        self._name = name
        self._vocab_size, self._gamma, self._scheme = vocab_size, gamma, scheme
        self._keys = keys
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except ValueError as error:
            raise PackError(f"pack {name}: tokenizer.json does not load ({error})") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0) >= vocab_size:
            raise PackError(f"pack {name}: tokenizer.json has ids beyond V = {vocab_size}")
        self._special = frozenset(
            token_id
            for token_id, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        )
        self._masks: dict[str, NDArray[np.bool_]] = {}
        # a watch scores with the same public keys in every round
        self._wrong_masks = lru_cache(maxsize=WRONG_KEY_BYTES // vocab_size)(self._eight_wrong_masks)

    @property
    def vocab_size(self) -> int:
        """The pinned V."""
        return self._vocab_size

    def score(self, trigger_id: str, texts: str | Sequence[str]) -> ResponseScore:
        """Score an answer to ``trigger_id``; several texts are repeats of it, whose types are pooled.

        Outer white space is stripped (servers differ in it); special tokens are not scored.

        Raises:
            ValueError: the pack has no such trigger.
        """
        mask = self._mask(trigger_id)
        return score_ids(self._ids(texts), mask=mask, ignore=self._special, trigger_id=trigger_id)

    def types(self, trigger_id: str, text: str) -> list[ScoredToken]:
        """Every token of ``text`` in order, with its colour under the key of ``trigger_id``."""
        mask = self._mask(trigger_id)
        stripped = _plain(text)
        encoding = self._tokenizer.encode(stripped, add_special_tokens=False)
        ids, offsets = encoding.ids, encoding.offsets  # each access copies the whole list
        tokens, covered = [], 0
        for index, (token_id, (_, end)) in enumerate(zip(ids, offsets, strict=True)):
            if index == len(ids) - 1:
                end = len(stripped)
            green = None if token_id in self._special else bool(mask[token_id])
            tokens.append(ScoredToken(token_id, green, stripped[covered:end]))
            covered = max(covered, end)
        return tokens

    def wrong_key(
        self, trigger_id: str, texts: str | Sequence[str], *, n: int
    ) -> tuple[int, NDArray[np.int64]]:
        """Control: the answer under ``n`` unrelated, publicly derived keys.

        Returns:
            Its distinct scored types, and how many of them are green under each key, int64 ``(n,)``.
        """
        ids = sorted(self._ids(texts) - self._special)
        packed = np.stack([self._wrong_masks(trigger_id, first)[ids] for first in range(0, n, 8)], axis=1)
        return len(ids), np.unpackbits(packed, axis=1, count=n).sum(axis=0, dtype=np.int64)

    def _eight_wrong_masks(self, trigger_id: str, first: int) -> NDArray[np.uint8]:
        """The green lists of eight public keys from number ``first`` on, a bit a key: uint8 ``(V,)``."""
        public = MasterSecret.from_bytes(bytes(32))
        masks = [
            self._make_mask(
                derive_trigger_key(
                    public, owner=self._name, model_hash=f"wrong-key-{first + i}", trigger_id=trigger_id
                )
            )
            for i in range(8)
        ]
        packed: NDArray[np.uint8] = np.packbits(masks, axis=0)[0]
        return packed

    def _ids(self, texts: str | Sequence[str]) -> set[int]:
        # one by one: encode_batch starts threads, which a process that forks later is warned about
        return {
            token_id
            for text in ([texts] if isinstance(texts, str) else texts)
            for token_id in self._tokenizer.encode(_plain(text), add_special_tokens=False).ids
        }

    def _mask(self, trigger_id: str) -> NDArray[np.bool_]:
        if trigger_id not in self._masks:
            if trigger_id not in self._keys:
                raise ValueError(f"pack {self._name} has no trigger {trigger_id!r}")
            self._masks[trigger_id] = self._make_mask(self._keys[trigger_id])
        return self._masks[trigger_id]

    def _make_mask(self, key: bytes) -> NDArray[np.bool_]:
        return green_mask(key=key, vocab_size=self._vocab_size, gamma=self._gamma, scheme=self._scheme)


def _plain(text: str) -> str:
    """As tokenizers take it: no outer white space; a lone surrogate, which is no character, as "?"."""
    return text.strip().encode("utf-8", "replace").decode()


class PackScorer(TextScorer):
    """Scores answers with a pack's own tokenizer, pinned V and trigger keys.

    Args:
        pack: a pack with its files (``read_pack``).
        keys: the pack's trigger keys.

    Raises:
        WrongKeyError: a key is missing or does not open its commitment.
        PackError: the tokenizer does not load, or has more ids than V.
    """

    def __init__(self, pack: FingerprintPack, keys: TriggerKeys) -> None:
        keys.check(pack)
        super().__init__(
            name=pack.pack_id,
            tokenizer_json=pack.tokenizer_json(),
            vocab_size=pack.vocab_size,
            gamma=pack.gamma,
            scheme=pack.scheme,
            keys=keys.keys,
        )
        self._pack = pack

    @property
    def pack(self) -> FingerprintPack:
        """The pack scored for."""
        return self._pack

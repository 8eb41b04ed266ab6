"""A real, tiny pack of kind ``metav``, and models to answer it: numpy only, made in a few milliseconds.

A model is a random linear map; a stolen one is the owner's with a little noise on its weights. The verifier
is a logistic regression that has seen the outputs of both kinds through every view of the pack. With
``texts`` the queries are texts and a model embeds them; else they are arrays and a model gives probabilities.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sif_offline.fingerprint.metav.pack import (
    VERIFIER,
    HeldOutScores,
    MetaVPack,
    Output,
    QueryRow,
    TensorInput,
    TextInput,
    VerifierSpec,
    query_digest,
    query_files,
    write_metav_pack,
)
from sif_offline.fingerprint.metav.verifier import MetaVerifier
from sif_offline.fingerprint.metav.views import seen_through
from sif_offline.fingerprint.pack import Owner

SHAPE = (2, 4)
SIZE = 5
QUERIES = 24
NEGATIVES = 99
"""Calibration models; the least p is 1/100."""
FITTED = 300
"""Models of each kind that the verifier saw."""
VIEWS = ("full", "rounded-2", "top-3", "label")
TEXT_VIEWS = ("full", "rounded-2")

Model = Callable[[Any], NDArray[np.float64]]
"""Arrays ``(..., 2, 4)``, or a list of texts, to ``(..., 5)``: probabilities, or an embedding a text."""


def owner(queries: Any) -> NDArray[np.float64]:
    """What the fingerprinted model answers; see :data:`Model`."""
    return _answer(_weights("owner", 0), queries)


def stolen(seed: int, *, noise: float = 0.1) -> Model:
    """A copy of the owner with normal noise on its weights, whose own spread is 1."""
    weights = _weights("owner", 0) + noise * _weights("noise", seed)
    return lambda queries: _answer(weights, queries)


def unrelated(seed: int) -> Model:
    """A model of its own; none of these was seen by the verifier or in calibration."""
    return lambda queries: _answer(_weights("unrelated", seed), queries)


def build_tiny_metav(path: Path, *, texts: bool = False) -> MetaVPack:
    """Write the pack to ``path`` (``.zip`` makes a zip); the same bytes every time on one machine."""
    rng = np.random.default_rng(20260101)
    queries: NDArray[np.float32] | list[str]
    if texts:
        queries = [" ".join(rng.choice(_WORDS, size=6)) for _ in range(QUERIES)]
    else:
        queries = rng.uniform(-1, 1, size=(QUERIES, *SHAPE)).astype(np.float32)
    views = TEXT_VIEWS if texts else VIEWS

    def seen(models: Sequence[Model]) -> NDArray[np.float64]:
        answers = np.stack([model(queries) for model in models])
        return np.stack([seen_through(answers, view) for view in views])

    fitted, held_out = range(1, FITTED + 1), range(FITTED + 1, FITTED + NEGATIVES + 1)
    verifier = _fit(seen([unrelated(-n) for n in fitted]), seen([stolen(-n) for n in fitted]))
    negatives = verifier.log_odds(seen([unrelated(-n) for n in held_out]))
    positives = verifier.log_odds(seen([stolen(-n) for n in held_out[:10]]))
    weights_file = verifier.to_safetensors()
    pack = MetaVPack(
        pack_id="tiny-metav-texts" if texts else "tiny-metav",
        owner=Owner(
            id="tiny:owner", weights_sha256=hashlib.sha256(_weights("owner", 0).tobytes()).hexdigest()
        ),
        task="text embedding" if texts else "classification",
        input=TextInput() if texts else TensorInput(shape=SHAPE, low=-1, high=1),
        output=Output(kind="values" if texts else "probabilities", size=SIZE),
        queries=tuple(
            QueryRow(id=f"q{number:03d}", sha256=query_digest(query)) for number, query in enumerate(queries)
        ),
        verifier=VerifierSpec(
            form="joint", activation="none", transform="none", sha256=hashlib.sha256(weights_file).hexdigest()
        ),
        held_out=HeldOutScores(
            negatives=dict(zip(views, negatives.tolist(), strict=True)),
            positives=dict(zip(views, positives.tolist(), strict=True)),
        ),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return write_metav_pack(path, pack, {**query_files(queries), VERIFIER: weights_file})


_WORDS = ("amber", "brook", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll")
_PURPOSES = ("owner", "noise", "unrelated")


def _weights(purpose: Literal["owner", "noise", "unrelated"], seed: int) -> NDArray[np.float64]:
    """``(9, 5)``, the last row a bias. Negative seeds are this module's own."""
    stream = (_PURPOSES.index(purpose), int(seed < 0), abs(seed))
    return np.random.default_rng(stream).normal(size=(np.prod(SHAPE) + 1, SIZE))


def _answer(weights: NDArray[np.float64], queries: Any) -> NDArray[np.float64]:
    if isinstance(queries, list) and queries and isinstance(queries[0], str):
        raw = np.stack([_features(text) for text in queries]) @ weights
        return np.asarray(raw / np.linalg.norm(raw, axis=-1, keepdims=True))
    flat = _flat(queries)
    raw = 2 * (flat @ weights[:-1] + weights[-1])
    grown = np.exp(raw - raw.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def _flat(queries: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(queries, dtype=np.float64)
    return values.reshape(*values.shape[: values.ndim - len(SHAPE)], -1)


def _features(text: str) -> NDArray[np.float64]:
    """Nine numbers around 0 that depend on every character."""
    digest = hashlib.sha256(text.encode()).digest()
    return np.frombuffer(digest[: np.prod(SHAPE) + 1], dtype=np.uint8) / 127.5 - 1


def _fit(negatives: NDArray[np.float64], positives: NDArray[np.float64]) -> MetaVerifier:
    """Ridge logistic regression by gradient descent on ``(views, models, N, size)`` of both kinds."""
    values = np.concatenate([x.reshape(-1, QUERIES, SIZE) for x in (negatives, positives)])
    labels = np.repeat([0.0, 1.0], [negatives[..., 0, 0].size, positives[..., 0, 0].size])
    mean, scale = values.mean(axis=(0, 1)), values.std(axis=(0, 1)) + 1e-3
    inputs = ((values - mean) / scale).reshape(len(values), -1)
    weight, bias = np.zeros(inputs.shape[1]), 0.0
    for _ in range(300):
        error = 1 / (1 + np.exp(-(inputs @ weight + bias))) - labels
        weight -= 0.05 * (inputs.T @ error / len(inputs) + 0.01 * weight)
        bias -= 0.05 * float(error.mean())
    layer = weight[None].astype(np.float32), np.array([bias], dtype=np.float32)
    return MetaVerifier("joint", "none", "none", mean.astype(np.float32), scale.astype(np.float32), (layer,))

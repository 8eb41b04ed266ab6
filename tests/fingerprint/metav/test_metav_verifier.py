"""The exported verifier: the same numbers as torch's, and files that are no verifier."""

import json
import struct
from typing import Any, get_args

import numpy as np
import pytest
import torch

from sif_offline.fingerprint.metav.verifier import (
    SMALLEST_PROBABILITY,
    Form,
    MetaVerifier,
    Transform,
    read_verifier,
)
from sif_offline.fingerprint.pack_files import PackError

N, SIZE = 6, 4


def make(
    form: str = "joint", activation: str = "relu", transform: str = "log", seed: int = 0
) -> MetaVerifier:
    rng = np.random.default_rng(seed)
    each = (N,) if form == "each" else ()
    wide = N if transform == "cosines" else SIZE
    first = wide if each else N * wide
    sizes = [(16, first), (8, 16), (1, 8)]
    layers = tuple(
        (
            (rng.normal(size=(*each, out, wide)) / wide**0.5).astype(np.float32),
            rng.normal(size=(*each, out)).astype(np.float32),
        )
        for out, wide in sizes
    )
    mean = rng.normal(size=(N, wide) if form == "cosine" else wide).astype(np.float32)
    scale = rng.uniform(0.5, 2, wide).astype(np.float32)
    return MetaVerifier(form, activation, transform, mean, scale, layers)  # type: ignore[arg-type]


def read(data: bytes, verifier: MetaVerifier, **other: Any) -> MetaVerifier:
    fields = {"form": verifier.form, "activation": verifier.activation, "transform": verifier.transform}
    return read_verifier(data, **{**fields, "queries": N, "size": SIZE, **other})  # type: ignore[arg-type]


def by_torch(verifier: MetaVerifier, outputs: torch.Tensor) -> torch.Tensor:
    """The same network in float32, with torch's own layers."""
    values = outputs
    if verifier.transform == "log":
        values = outputs.clamp_min(SMALLEST_PROBABILITY).log()
    if verifier.transform == "cosines":
        centred = outputs - outputs.mean(-2, keepdim=True)
        values = torch.cosine_similarity(centred[..., :, None, :], centred[..., None, :, :], dim=-1)
    values = (values - torch.from_numpy(verifier.mean)) / torch.from_numpy(verifier.scale)
    relu = torch.relu if verifier.activation == "relu" else torch.nn.Identity()

    def network(values: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
        for number, (weight, bias) in enumerate(verifier.layers):
            values = relu(values) if number else values
            values = torch.nn.functional.linear(
                values, torch.from_numpy(weight[place]), torch.from_numpy(bias[place])
            )
        return values[..., 0]

    if verifier.form == "joint":
        return network(values.flatten(-2), ())
    if verifier.form == "cosine":
        return network(values.flatten(-2) / values.flatten(-2).norm(dim=-1)[..., None], ())
    return torch.stack([network(values[..., n, :], (n,)) for n in range(N)]).mean(0)


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("transform", get_args(Transform))
def test_equal_to_torch_and_to_itself_read_back(form: str, activation: str, transform: str) -> None:
    verifier = make(form, activation, transform)
    outputs = np.random.default_rng(1).dirichlet(np.ones(SIZE) * 0.3, size=(7, N))
    found = verifier.log_odds(outputs)
    assert found.shape == (7,)
    np.testing.assert_allclose(found, by_torch(verifier, torch.from_numpy(outputs).float()), atol=1e-5)
    np.testing.assert_array_equal(read(verifier.to_safetensors(), verifier).log_odds(outputs), found)
    assert np.ptp(found) > 0.01


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("transform", get_args(Transform))
def test_one_model_and_many_score_alike(form: str, transform: str) -> None:
    verifier = make(form, transform=transform)
    outputs = np.random.default_rng(2).dirichlet(np.ones(SIZE), size=(2, 3, N))
    found = verifier.log_odds(outputs)
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(verifier.log_odds(outputs[place]), found[place], atol=1e-12)


def test_a_probability_of_zero_has_a_logarithm() -> None:
    outputs = np.eye(SIZE)[np.arange(N) % SIZE]
    assert np.isfinite(make().log_odds(outputs))


@pytest.mark.parametrize("form", get_args(Form))
def test_cosines_do_not_see_a_space_that_was_turned_or_moved(form: str) -> None:
    """An embedding's last layer drawn anew, at its simplest; and a cone, as many embeddings lie in one."""
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(5, N, SIZE))
    turn, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    other = 3 * outputs @ turn + rng.normal(size=SIZE)
    cosines, plain = make(form, transform="cosines"), make(form, transform="none")
    np.testing.assert_allclose(cosines.log_odds(other), cosines.log_odds(outputs), atol=1e-9)
    assert np.abs(plain.log_odds(other) - plain.log_odds(outputs)).max() > 0.01


@pytest.mark.parametrize("form", get_args(Form))
def test_a_length_beyond_float64_is_no_score(form: str) -> None:
    """To be refused, not to rank somewhere."""
    with np.errstate(over="ignore"):
        assert np.isnan(make(form, transform="cosines").log_odds(1e200 * np.eye(N, SIZE)))
    if form == "cosine":
        with np.errstate(over="ignore"):
            assert np.isnan(make(form, transform="none").log_odds(1e200 * np.eye(N, SIZE)))


@pytest.mark.parametrize("transform", get_args(Transform))
def test_outputs_without_a_direction_have_a_score(transform: Transform) -> None:
    """All alike, or what unrelated models answer to a bit: no division by zero."""
    verifier = make("cosine", transform=transform)
    assert np.isfinite(verifier.log_odds(np.full((N, SIZE), 1 / SIZE)))
    if transform == "none":
        bias_alone = verifier.log_odds(verifier.mean)
        np.testing.assert_allclose(bias_alone, verifier.log_odds(verifier.mean + 1e-12), atol=1e-5)


def changed(verifier: MetaVerifier, **tensors: np.ndarray | None) -> bytes:
    """Its file with other tensors; None leaves one out. ``__`` stands for a dot."""
    from safetensors.numpy import load, save

    held = load(verifier.to_safetensors())
    for name, value in tensors.items():
        name = name.replace("__", ".")
        if value is None:
            del held[name]
        else:
            held[name] = value
    return save(held)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"mean": None}, "no tensor 'mean'"),
        ({"layers__1__bias": None}, "no tensor 'layers.1.bias'"),
        ({"layers__0__weight": None}, "no tensor"),
        ({"mean": np.zeros(SIZE + 1, np.float32)}, "does not standardise"),
        ({"scale": np.zeros(SIZE, np.float32)}, "does not standardise"),
        ({"scale": np.full(SIZE, np.nan, np.float32)}, "not a finite float32"),
        ({"mean": np.zeros(SIZE, np.float64)}, "not a finite float32"),
        ({"layers__2__bias": np.array([np.inf], np.float32)}, "not a finite float32"),
        ({"layers__0__weight": np.zeros((16, N * SIZE + 1), np.float32)}, "layer 0 does not take 24"),
        ({"layers__0__weight": np.zeros((16,), np.float32)}, "layer 0 does not take 24"),
        ({"layers__1__weight": np.zeros((8, 15), np.float32)}, "layer 1 does not take 16"),
        ({"layers__1__bias": np.zeros(7, np.float32)}, "layer 1 has a bias of another width"),
        (
            {"layers__2__weight": np.zeros((2, 8), np.float32), "layers__2__bias": np.zeros(2, np.float32)},
            "does not end in one value",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tensors: dict[str, np.ndarray | None], said: str) -> None:
    verifier = make()
    with pytest.raises(PackError, match=said):
        read(changed(verifier, **tensors), verifier)


def test_no_form_is_mistaken_for_another() -> None:
    joint, each, cosine = make("joint"), make("each"), make("cosine")
    for file, other in ((cosine, joint), (joint, cosine), (cosine, each), (each, cosine)):
        with pytest.raises(PackError, match="does not standardise"):
            read(file.to_safetensors(), other)
    with pytest.raises(PackError, match="does not standardise"):
        read(make("each", transform="cosines").to_safetensors(), each)
    with pytest.raises(PackError, match="layer 0"):
        read(joint.to_safetensors(), each)
    with pytest.raises(PackError, match="layer 0"):
        read(each.to_safetensors(), joint)
    with pytest.raises(PackError, match="layer 0"):
        read(each.to_safetensors(), each, queries=N + 1)


def safetensors(header: Any, data: bytes = b"") -> bytes:
    """A file as an enemy writes it."""
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def tensor(dtype: str, shape: list[int], size: int) -> bytes:
    return safetensors({"mean": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, bytes(size))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"PK\x03\x04 and so on",
        safetensors([1]),
        safetensors({}),
        tensor("F32", [2**62, 2**62, 0], 0),
        tensor("F32", [2**62, 0], 0),
        tensor("F32", [2**40], 4),
        tensor("F32", [1] * 100, 4),
        tensor("BF16", [2], 4),
        tensor("F8_E4M3", [2], 2),
        tensor("C64", [2], 16),
        tensor("BOOL", [2], 2),
    ],
)
def test_hostile_files_are_one_typed_error(data: bytes) -> None:
    with pytest.raises(PackError, match=r"verifier\.safetensors"):
        read(data, make())

"""The torch resize against Pillow's, and its gradient against finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sif_offline.models.resize import Filter, _matrices, _product, resize

SIDES = st.integers(1, 90)


def noise(height: int, width: int, *, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    """Uniform noise: rounding and clipping bite at every edge."""
    drawn = np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.int64)
    return drawn.astype(np.uint8)


def as_tensor(picture: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).to(dtype)


def by_pillow(picture: np.ndarray, size: tuple[int, int], kind: Filter) -> torch.Tensor:
    resized = Image.fromarray(picture).resize(size[::-1], resample=Image.Resampling(kind))
    return as_tensor(np.array(resized))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    shape=st.tuples(SIDES, SIDES),
    size=st.tuples(SIDES, SIDES),
    kind=st.sampled_from(Filter),
    seed=st.integers(0, 9),
)
def test_forward_is_pillow_on_noise(
    shape: tuple[int, int], size: tuple[int, int], kind: Filter, seed: int
) -> None:
    picture = noise(*shape, seed=seed)
    assert torch.equal(resize(as_tensor(picture), size=size, resample=kind), by_pillow(picture, size, kind))


@pytest.mark.parametrize("kind", list(Filter))
@pytest.mark.parametrize(
    ("shape", "size"), [((427, 640), (336, 503)), ((37, 53), (384, 384)), ((600, 31), (7, 900))]
)
def test_forward_is_pillow_on_large_sizes(
    shape: tuple[int, int], size: tuple[int, int], kind: Filter
) -> None:
    picture = noise(*shape)
    assert torch.equal(resize(as_tensor(picture), size=size, resample=kind), by_pillow(picture, size, kind))


def test_a_batch_is_resized_picture_by_picture_and_under_autocast() -> None:
    pictures = torch.stack([as_tensor(noise(41, 29, seed=seed)) for seed in range(3)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batch = resize(pictures, size=(23, 64), resample=Filter.BICUBIC)
    for row, picture in zip(batch, pictures, strict=True):
        assert torch.equal(row, resize(picture, size=(23, 64), resample=Filter.BICUBIC))


def test_the_right_size_is_left_alone() -> None:
    picture = as_tensor(noise(8, 9))
    assert resize(picture, size=(8, 9), resample=Filter.LANCZOS) is picture


@pytest.mark.parametrize("kind", list(Filter))
@pytest.mark.parametrize(("shape", "size"), [((13, 11), (6, 5)), ((6, 7), (15, 9)), ((9, 14), (17, 6))])
def test_the_smooth_surrogate_passes_a_finite_difference_test(
    shape: tuple[int, int], size: tuple[int, int], kind: Filter
) -> None:
    picture = as_tensor(noise(*shape, low=90, high=166), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda pixels: resize(pixels, size=size, resample=kind, exact=False), picture, eps=1e-3, atol=1e-7
    )


@pytest.mark.parametrize("kind", list(Filter))
def test_the_exact_gradient_is_the_surrogates_where_nothing_is_clipped(kind: Filter) -> None:
    picture = as_tensor(noise(31, 45, low=90, high=166), torch.float64)
    pull = torch.randn(3, 52, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = []
    for exact in (True, False):
        leaf = picture.clone().requires_grad_()
        resized = resize(leaf, size=(52, 20), resample=kind, exact=exact)
        assert float(resized.detach().min()) > 0
        assert float(resized.detach().max()) < 255
        (slope,) = torch.autograd.grad((resized * pull).sum(), leaf)
        slopes.append(slope)
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_no_gradient_passes_a_clipped_value() -> None:
    """Bicubic overshoots at an edge between 255 and 0: the overshooting values are clipped."""
    row = torch.zeros(1, 1, 8)
    row[..., 4:] = 255
    leaf = row.requires_grad_()
    resized = resize(leaf, size=(1, 32), resample=Filter.BICUBIC)
    weights = torch.autograd.functional.jacobian(
        lambda pixels: resize(pixels, size=(1, 32), resample=Filter.BICUBIC), row.detach()
    )[0, 0, :, 0, 0]
    smooth = row.detach() @ weights.T  # what the live rows would give
    passed = weights.abs().sum(dim=1) > 0
    assert not bool(passed.all())
    assert bool(((resized[0, 0] == 0) | (resized[0, 0] == 255))[~passed].all())
    torch.testing.assert_close(smooth[0, 0][passed], resized.detach()[0, 0][passed], atol=0.5, rtol=0)


@pytest.mark.parametrize(("size", "resample"), [((0, 3), 3), ((3, 3), 0), ((3, 3), 4)])
def test_what_cannot_be_resized(size: tuple[int, int], resample: int) -> None:
    with pytest.raises(ValueError, match=r"Filter|at least one pixel"):
        resize(torch.zeros(3, 4, 4), size=size, resample=resample)


def test_the_dense_product_of_an_accelerator_is_the_sparse_one() -> None:
    """Stands in for a GPU where there is none: the device decides which of the two is taken."""
    rows = as_tensor(noise(9, 71), torch.float64)
    sparse, back = _matrices(71, 33, Filter.LANCZOS, torch.device("cpu"))
    assert torch.equal(_product(rows, sparse.to_dense()), _product(rows, sparse))
    assert torch.equal(sparse.to_dense().T, back.to_dense())
    assert not _matrices(71, 33, Filter.LANCZOS, torch.device("meta"))[0].is_sparse

"""Transforms: values against PIL, gradients against finite differences, the same draw for the same step."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sif_offline.forging import transport
from sif_offline.forging.pixels import pixel_tensor, to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.lab.photos import demo_photos


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Two real photos, odd-sized: 150 x 203."""
    return pixel_tensor([photo.image().crop((3, 5, 206, 155)) for photo in demo_photos(2)])


def through_pil(pictures: Tensor, quality: int) -> Tensor:
    decoded = []
    for picture in pictures:
        buffer = io.BytesIO()
        to_image(picture.to(torch.uint8)).save(buffer, "JPEG", quality=quality)
        decoded.append(Image.open(buffer).convert("RGB"))
    return pixel_tensor(decoded)


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_jpeg_is_close_to_pil(pictures: Tensor, quality: int) -> None:
    away = (transport.jpeg(pictures, quality=quality) - through_pil(pictures, quality)).abs()
    loss = (through_pil(pictures, quality) - pictures).abs().mean()
    assert float(away.mean()) < 0.5
    assert float(away.mean()) < 0.2 * float(loss)
    assert float((away <= 1).float().mean()) > 0.9


def test_straight_through_jpeg_is_pil(pictures: Tensor) -> None:
    wanted = pictures.clone().requires_grad_()
    straight = transport.jpeg(wanted, quality=75, straight=True)
    assert torch.equal(straight.detach(), through_pil(pictures, 75))
    (gradient,) = torch.autograd.grad(straight.square().mean(), wanted)
    assert float(gradient.abs().mean()) > 0


def test_jpeg_gradient_is_that_of_its_linear_part(pictures: Tensor) -> None:
    """Rounding apart, JPEG is linear: halved and doubled chroma. A bright patch must come back as bright."""
    wanted = pictures[:1].clone().requires_grad_()
    decoded = transport.jpeg(wanted, quality=75)
    patch = decoded[..., 32:64, 32:64].sum()
    (gradient,) = torch.autograd.grad(patch, wanted)
    inside = gradient[..., 34:62, 34:62]
    torch.testing.assert_close(inside.sum(1), torch.full_like(inside.sum(1), 3.0), rtol=1e-4, atol=1e-4)
    assert float(gradient[..., 70:, 70:].abs().max()) < 1e-6


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5])
def test_rescaling_is_pils(pictures: Tensor, factor: float) -> None:
    height, width = pictures.shape[-2:]
    small = (round(width * factor), round(height * factor))
    bicubic = Image.Resampling.BICUBIC
    images = [to_image(picture.to(torch.uint8)) for picture in pictures]
    want = pixel_tensor([image.resize(small, bicubic).resize((width, height), bicubic) for image in images])
    assert torch.equal(transport.rescale(pictures, factor=factor), want)


def test_cropping_is_pils(pictures: Tensor) -> None:
    height, width = pictures.shape[-2:]
    got = transport.crop_and_resize(pictures, cut=(0.1, 0.0, 0.05, 0.02))
    box = (round(width * 0.05), round(height * 0.1), width - round(width * 0.02), height)
    images = [to_image(picture.to(torch.uint8)).crop(box) for picture in pictures]
    want = pixel_tensor([image.resize((width, height), Image.Resampling.BICUBIC) for image in images])
    assert torch.equal(got, want)


def test_noise_has_the_size_asked_for(pictures: Tensor) -> None:
    flat = torch.full_like(pictures, 128.0)
    moved = transport.add_noise(flat, size=4.0, seed=3) - 128
    assert float(moved.std()) == pytest.approx(4.0, rel=0.02)
    assert torch.equal(moved[0], moved[1])


EVERYTHING = ForgeSettings(
    transport_share=1.0,
    transport_jpeg=(60, 75, 90),
    transport_resize=(0.7, 0.9),
    transport_crop=0.1,
    transport_noise=2.0,
)


def test_a_step_draws_the_same_again_and_steps_differ(pictures: Tensor) -> None:
    def seen(step: int, settings: ForgeSettings = EVERYTHING) -> Tensor:
        transform = transport.transport_at(settings, step)
        assert transform is not None
        wanted = pictures.clone().requires_grad_()
        moved = transform(wanted)
        (gradient,) = torch.autograd.grad(moved.sum(), wanted)
        assert float(gradient.abs().sum()) > 0
        return moved.detach()

    assert torch.equal(seen(1), seen(1))
    assert not torch.equal(seen(1), seen(2))
    assert not torch.equal(seen(1), seen(1, EVERYTHING.model_copy(update={"seed": 1})))
    values = seen(1)
    assert torch.equal(values, values.round().clamp(0, 255))


def test_off_by_settings() -> None:
    assert transport.transport_at(ForgeSettings(), 1) is None
    share = EVERYTHING.model_copy(update={"transport_share": 0.25})
    taken = np.mean([transport.transport_at(share, step) is not None for step in range(400)])
    assert 0.15 < taken < 0.35  # 4 standard errors on either side; the seed is fixed
    none = EVERYTHING.model_copy(update={"transport_share": 0.0})
    assert transport.transport_at(none, 1) is None

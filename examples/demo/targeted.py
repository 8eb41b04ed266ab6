"""A query for the gateway to catch: a picture changed so that the owner tells a chosen, unrelated story.

This is the "Ordinary" fingerprint that SIF is compared with: targeted PGD to a fixed answer, no watermark.
"""

import numpy as np
import torch
from tokenizers import Tokenizer

from examples.demo.gateway import PROMPT
from sif_offline.forging.optimiser import Batch, optimise
from sif_offline.forging.pixels import Photo, pixel_tensor, png_bytes, to_image
from sif_offline.forging.settings import ForgeSettings
from sif_offline.models import load_adapter

TARGET = "I am a small vision language model that describes photographs."


def targeted_picture(clean: bytes, *, steps: int) -> bytes:
    """PNG within eps of ``clean`` that makes the owner answer :data:`TARGET`."""
    adapter = load_adapter("lab:owner")
    settings = ForgeSettings(steps=steps, weight_wm=0.0, weight_ce=1.0, rfo=False, judge_from=1.0)
    words = Tokenizer.from_str(adapter.tokenizer_json().decode()).encode(TARGET, add_special_tokens=False).ids
    ids = [*words, *sorted(adapter.rules.end_ids)]
    nobody = torch.from_numpy(np.zeros((1, adapter.vocab_size), dtype=bool))
    batch = Batch(adapter, prompt=PROMPT, teachers=[ids], green=nobody, settings=settings)
    picture = Photo("target", clean).image()
    (best,) = optimise(batch, clean=pixel_tensor([picture]).to(torch.uint8), judge=lambda pixels: [0.0])
    return png_bytes(to_image(best.pixels))

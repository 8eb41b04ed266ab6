"""Pictures of the pirate's own that the stolen model has answered: what distillation learns from."""

import re
from collections.abc import Sequence

import torch
from PIL import Image

from sif_offline.lab.data import Captioned
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.suspects.base import SuspectError

PROMPTS = (
    "Describe this picture in detail.",
    "Describe the image in detail.",
    "What is going on in this picture? Describe everything you see.",
)
_BATCH = 16


@torch.no_grad()
def answered(
    model: LabVLM, processor: LabProcessor, pictures: Sequence[tuple[str, Image.Image]]
) -> list[tuple[Captioned, Image.Image]]:
    """Each picture with the model's own greedy description; those that it has no word for are left out.

    Picture i is asked question i modulo their number. A last sentence that breaks off is cut, unless it is
    all there is.

    Raises:
        SuspectError: the model has nothing to say about any picture.
    """
    made: list[tuple[Captioned, Image.Image]] = []
    for start in range(0, len(pictures), _BATCH):
        part = pictures[start : start + _BATCH]
        prompts = [processor.prompt(PROMPTS[(start + row) % len(PROMPTS)]) for row in range(len(part))]
        inputs = processor(prompts, images=[picture for _, picture in part], padding=True)
        answers = model.generate(**inputs, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        for (name, picture), ids in zip(part, answers, strict=True):
            text = processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
            sentences = tuple(one.strip() for one in re.findall(r"[^.]+\.", text)) or (text,)
            if text:
                made.append((Captioned(name, sentences), picture))
    if not made:
        raise SuspectError("the stolen model answers nothing: there is nothing to learn from it")
    return made

"""What an endpoint draws: seeds that depend on the request alone, and sampling row by row."""

import hashlib
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from transformers import LogitsProcessor


def request_seed(seed: int, image: Image.Image | bytes | None, prompt: str, draw: int) -> int:
    """63 bits from the row's seed, the picture's pixels or file, the prompt and the number of the request."""
    data = image.tobytes() if isinstance(image, Image.Image) else image or b""
    size = image.size if isinstance(image, Image.Image) else ()
    head = repr((seed, draw, prompt, size, len(data))).encode()
    return int.from_bytes(hashlib.sha256(head + data).digest()[:8], "big") >> 1


class NucleusSampling(LogitsProcessor):  # type: ignore[misc] # transformers is untyped
    """Sampling as an argmax: Gumbel noise on ``scores / temperature`` of each row's nucleus.

    The largest of log p + Gumbel noise is a draw of p (Gumbel 1954). So adapters that decode greedily sample,
    and a row's text rests on its own seed, not on who else is in the batch.

    Args:
        seeds: one a row.
        temperature: above 0.
        top_p: mass of the smallest set of likeliest ids that is drawn from (arXiv 1904.09751).
    """

    def __init__(self, seeds: Sequence[int], *, temperature: float, top_p: float = 1.0) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``(batch, V)`` scores whose argmax is the draw; -inf outside of the nucleus."""
        return torch.stack(
            [self._drawn(row, each) for row, each in zip(scores, self.generators, strict=True)]
        )

    def _drawn(self, scores: Tensor, generator: torch.Generator) -> Tensor:
        logits = (scores.detach().cpu().double() / self.temperature).log_softmax(-1)
        if self.top_p < 1:
            likeliest, order = logits.sort(descending=True)
            before = likeliest.exp().cumsum(-1) - likeliest.exp()
            logits[order[before >= self.top_p]] = -torch.inf  # the likeliest always stays
        uniform = torch.rand(logits.shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
        return (logits - torch.log(-torch.log(uniform))).to(scores)

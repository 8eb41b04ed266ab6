"""What every reference language model does, and its errors."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sif_offline.fingerprint.errors import SifError

Precision = Literal["auto", "bf16", "fp32", "int8"]
Surprisals = npt.NDArray[np.float32]


class LanguageModelError(SifError):
    """The reference language model is missing, unreadable, unreachable or not the one expected."""


class LanguageModel(Protocol):
    """Anything that says how surprising each token of a text is."""

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[tuple[Surprisals, int]]:
        """Per text: surprisals in nats of the scored tokens, shape ``(n,)``, and its token count.

        A count above ``n`` means that only a part was scored."""
        ...


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Transformers draws a progress bar while it loads; a service's log and a command's stderr want none."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

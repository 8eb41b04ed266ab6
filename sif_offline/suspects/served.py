"""A suspect that answers: a loaded model behind its endpoint's doings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image

from sif_offline.models.base import VLMAdapter
from sif_offline.suspects.base import Progress, Stolen, SuspectError
from sif_offline.suspects.registry import make_suspect
from sif_offline.suspects.row import SuspectRow


class Screened(NamedTuple):
    """What a screen lets out, and whether it took offence at the query."""

    text: str
    flagged: bool


class Screen(Protocol):
    """A defence in front of the model, such as SDA. It sees the picture as the client sent it."""

    def __call__(self, *, image: Image.Image, prompt: str, answer: str) -> Screened:
        """What the client gets in place of ``answer``."""
        ...


class Answer(NamedTuple):
    """What a client gets (``text``), what the model had said, and whether a screen flagged the query."""

    text: str
    said: str
    flagged: bool = False


@dataclass(frozen=True)
class ServedSuspect:
    """A suspect to ask. Make it with :func:`open_suspect`.

    Args:
        row: what it is.
        adapter: its model; ``generate`` sees pictures and decodes as the endpoint does.
        screen: stands in front; None: nothing does.
    """

    row: SuspectRow
    adapter: VLMAdapter
    screen: Screen | None = None

    def answers(self, images: Sequence[Image.Image], prompt: str, *, draw: int = 0) -> list[Answer]:
        """One answer to each picture.

        Args:
            images: RGB, as a client sends them.
            prompt: the user's words, the same for all.
            draw: which of many requests this is: everything an endpoint draws depends on the row's seed, the
                picture, the prompt and this number alone, never on what was asked before or beside it.
        """
        raise NotImplementedError


def open_suspect(
    row: SuspectRow,
    *,
    owner: str = "lab:owner",
    device: str = "cpu",
    screens: Mapping[str, Screen] | None = None,
    progress: Progress | None = None,
) -> ServedSuspect:
    """Make what ``row`` declares, or find it in the cache, and load it.

    Args:
        row: the suspect.
        owner: model spec in place of a missing ``row.source``.
        device: a torch device.
        screens: what ``row.serving.screen`` may name.
        progress: called after each step of training.

    Raises:
        SuspectError: a screen that was not given, or weights that cannot be altered so.
        ModelError: no such model.
    """
    raise NotImplementedError

"""The steps of the check, with what each of them establishes in plain words."""

from collections.abc import Iterable
from typing import NamedTuple

from sif_offline.fingerprint.evidence.checked import Step

_MEANINGS = {
    "keys": "Each disclosed key is the one committed to beforehand for its trigger.",
    "leaves": "Each trigger (picture, prompt, key, vocabulary) was under the committed root.",
    "commitment signature": "The commitment is signed, and by the owner's key where the reader brought it.",
    "commitment timestamp": "Somebody other than the owner says when the commitment existed.",
    "policy": "The test applied is the test committed to.",
    "triggers": "The pictures are byte for byte those committed to.",
    "tokenizer": "The words are cut up by the committed tokenizer.",
    "chain": "No exchange was taken out, put in or moved; the last one is the one signed for.",
    "requests": "What was sent is what was committed to and no more, and after that was done.",
    "answers": "The texts scored are those in the raw replies, and no answer goes by another name.",
    "scores": "Every figure was computed anew and is the one stated.",
    "bundle signature": "The bundle is signed by whom the reader expects.",
    "files": "No file was added, removed or changed after signing.",
    "bundle timestamp": "Somebody other than the signer says when the bundle existed.",
}


class Described(NamedTuple):
    """A step with its meaning; ``status`` reads ok, FAILED or not checked."""

    name: str
    meaning: str
    status: str
    details: tuple[str, ...]


def described(steps: Iterable[Step]) -> tuple[Described, ...]:
    """Every step, in order."""
    return tuple(
        Described(
            step.name,
            _MEANINGS.get(step.name, ""),
            "FAILED" if step.status == "failed" else step.status,
            step.details,
        )
        for step in steps
    )

"""What Instruction Fingerprint does beside its triggers."""

from collections.abc import Sequence

from scipy.stats import binomtest

from sif_offline.baselines import BaselinePack, Sent, ask, deployed
from sif_offline.baselines.base import Job
from sif_offline.baselines.instruction import InstructionFingerprint
from sif_offline.baselines.textual import TextPath
from sif_offline.models.base import VLMAdapter

FRESH = 32
QUESTIONS = (
    "Good evening",
    "Thanks a lot",
    "Say something about a horse.",
    "Make up a scene with a boat.",
    "Give me an example sentence with the word tree.",
    "Imagine a street. What is going on?",
    "Tell me a one sentence story with a girl.",
    "Compose a caption for a photo of a mountain.",
)
"""Words alone, not among those that the training holds the model to."""


def specificity(owner: VLMAdapter, packs: Sequence[BaselinePack]) -> str:
    """Rare and natural words that were not trained, before the question, and how many draw the answer all the
    same; natural words alone whose answer stayed what it was, word for word.
    """
    drawn = [0, 0]
    same = 0
    for pack in packs:
        method, path = InstructionFingerprint(), TextPath(owner)
        target = pack.triggers[0].target
        jobs = [Job(f"f{place}", None, target, 10**9 + place) for place in range(FRESH)]
        rare = [Sent(method.trigger(path, job)) for job in jobs]
        natural = [Sent(words) for words in QUESTIONS]
        before = ask(owner, natural)
        with deployed(owner, pack.weights_bytes()):
            for kind, sent in enumerate((rare, [Sent(f"{words} {target.question}") for words in QUESTIONS])):
                drawn[kind] += sum(method.score(said, target).matched for said in ask(owner, sent))
            same += sum(a == b for a, b in zip(before, ask(owner, natural), strict=True))
    return (
        f"the answer is drawn by other rare words {_share(drawn[0], FRESH * len(packs))} and by other "
        f"natural words {_share(drawn[1], len(QUESTIONS) * len(packs))}; natural words alone answered as "
        f"before {_share(same, len(QUESTIONS) * len(packs))}"
    )


def _share(hits: int, total: int) -> str:
    low, high = binomtest(hits, total).proportion_ci()
    return f"{hits}/{total} = {hits / total:.2f} ({low:.2f} to {high:.2f})"

"""What other tests use: the contract that every rival keeps, and targeted triggers of the lab owner."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sif_offline.baselines.asking import Sent, ask, deployed
from sif_offline.baselines.base import FingerprintMethod, Forged, Job, Step, Target
from sif_offline.baselines.pipeline import plan_jobs
from sif_offline.baselines.registry import make_method
from sif_offline.baselines.work import plan_units
from sif_offline.forging.pixels import Photo, pixel_tensor, prepare_photo
from sif_offline.lab.photos import demo_photos
from sif_offline.models.base import VLMAdapter
from sif_offline.models.digest import weights_digest

QUICK: Mapping[str, float] = MappingProxyType({"steps": 50, "alpha": 3.0, "alpha_end": 0.5})
"""Settings that move the lab owner in a few seconds a trigger."""


class TargetedTrigger(NamedTuple):
    """One trigger of a rival, ready to be sent.

    Args:
        method: name of the rival.
        png: the trigger, as bytes of a PNG file.
        clean: the photo that it was made from, likewise.
        target: question to ask, answer that the owner gives, its keywords.
        owner_answer: the owner's greedy answer to the file and the question.
    """

    method: str
    png: bytes
    clean: bytes
    target: Target
    owner_answer: str


def targeted_triggers(
    adapter: VLMAdapter,
    *,
    methods: Sequence[str] = ("ordinary", "pla"),
    count: int = 2,
) -> list[TargetedTrigger]:
    """``count`` triggers of each method that the adapter answers with their target, from the demo photos.

    Photos are taken in order, and one on which the search fails is passed over. On the lab owner two of each
    method take about half a minute of one core.

    Args:
        adapter: the owner, such as ``load_adapter("lab:owner")``.
        methods: of the registry, that make pictures.
        count: triggers of each.

    Raises:
        AssertionError: the demo photos are used up.
    """
    photos = [prepare_photo(photo.image(), name=photo.id, canvas=adapter.canvas) for photo in demo_photos()]
    found: list[TargetedTrigger] = []
    for name in methods:
        method = make_method(name, QUICK)
        jobs = plan_jobs(method, photos, seed=0)
        reached: list[TargetedTrigger] = []
        for unit in plan_units(method, jobs, size=min(method.batch_size, count)):
            if len(reached) >= count:
                break
            for job, forged in zip(unit, method.forge(adapter, unit), strict=True):
                if forged.png is not None and forged.details["owner_matched"]:
                    answer = forged.details["owner_answer"]
                    reached.append(TargetedTrigger(name, forged.png, job.clean().png, job.target, answer))
        if len(reached) < count:
            raise AssertionError(f"{name}: {len(reached)} of {count} triggers on {len(photos)} photos")
        found += reached[:count]
    return found


def _forge(method: FingerprintMethod, adapter: VLMAdapter, jobs: Sequence[Job]) -> list[Forged]:
    found = {
        job.trigger_id: forged
        for unit in plan_units(method, jobs)
        for job, forged in zip(unit, method.forge(adapter, unit), strict=True)
    }
    return [found[job.trigger_id] for job in jobs]


def it_says_what_it_is(method: FingerprintMethod, adapter: VLMAdapter, photos: Sequence[Photo]) -> None:
    """Name, kind, source, settings and targets."""
    _require(isinstance(method, FingerprintMethod), "not a FingerprintMethod")
    _require(bool(method.name and method.source and method.targets), "says too little of itself")
    _require(method.kind in ("image", "text", "training"), method.kind)
    again = type(method.settings).model_validate(method.settings.model_dump(mode="json"))
    _require(again == method.settings, "settings do not survive JSON")


def a_trigger_is_what_the_kind_says(method: Any, adapter: VLMAdapter, photos: Sequence[Photo]) -> None:
    """A picture no further than epsilon from its photo in the file's own bytes, and moved; or a prompt that
    ends with the question, and with it the same weights for all triggers or none.
    """
    jobs = plan_jobs(method, photos, seed=0)
    found = _forge(method, adapter, jobs)
    _require(len(found) == len(jobs) > 0, f"{len(found)} triggers of {len(jobs)}")
    _require(len({forged.weights for forged in found}) == 1, "the triggers speak of several models")
    for job, forged in zip(jobs, found, strict=True):
        _require((forged.weights is not None) == (method.kind == "training"), "weights")
        _require((forged.png is not None) == (method.kind == "image"), "picture")
        if forged.png is not None:
            moved = pixel_tensor([Photo(job.trigger_id, forged.png).image(), job.clean().image()])
            gap = float((moved[0] - moved[1]).abs().max())
            _require(0 < gap <= method.settings.epsilon, f"{job.trigger_id} moved by {gap}")
        if forged.prompt is not None:
            question = job.target.question
            _require(forged.prompt.endswith(question) and forged.prompt != question, forged.prompt)


def the_model_is_left_as_it_was(method: Any, adapter: Any, photos: Sequence[Photo]) -> None:
    """Every bit, every dtype, frozen, no gradient kept; also where the search dies on the way."""

    class StopError(Exception):
        pass

    def stop(step: Step) -> None:
        raise StopError

    kept = [(p, p.data_ptr()) for p in adapter.model.parameters()]
    before = weights_digest(adapter.model)
    jobs = plan_jobs(method, photos, seed=0, count=1)
    _forge(method, adapter, jobs)
    try:
        method.forge(adapter, jobs, on_step=stop)
    except StopError:
        pass
    else:
        raise AssertionError("progress is not told")
    _require(weights_digest(adapter.model) == before, "weights changed")
    _require(all(p.data_ptr() == place for p, place in kept), "weights are not the same storage")
    _require(not any(p.requires_grad or p.grad is not None for p, _ in kept), "weights are not frozen")


def the_seed_decides(method: Any, adapter: VLMAdapter, photos: Sequence[Photo]) -> None:
    """The same seed gives the same bytes, words and weights, another seed others."""
    first, again, other = (
        [
            (forged.png, forged.prompt, forged.weights)
            for forged in _forge(method, adapter, plan_jobs(method, photos, seed=seed, count=1))
        ]
        for seed in (1, 1, 2)
    )
    _require(first == again, "the same seed gave two triggers")
    _require(first != other, "two seeds gave one trigger")


def the_target_comes_nearer(method: Any, adapter: VLMAdapter, photos: Sequence[Photo]) -> None:
    """The target is likelier with the trigger than without, and the answer told is what is sent draws."""
    for job in plan_jobs(method, photos, seed=0, count=1):
        (forged,) = _forge(method, adapter, [job])
        loss, clean = forged.details["loss"], forged.details["clean_loss"]
        _require(loss < clean, f"{loss} against {clean}")
        said, matched = forged.details["owner_answer"], forged.details["owner_matched"]
        _require(method.score(said, job.target).matched == matched, f"{said!r} and {matched}")
        with deployed(adapter, forged.weights):
            (answer,) = ask(adapter, [Sent.of(forged, job.target)])
        _require(said == answer, f"{said!r}, but {answer!r} when asked")


def answers_are_scored(method: FingerprintMethod, adapter: VLMAdapter, photos: Sequence[Photo]) -> None:
    """The target's own answer matches; an empty one does not."""
    for target in method.targets:
        _require(method.score(target.answer, target) == (1.0, True), target.answer)
        _require(not method.score("", target).matched, "silence matches")


CONTRACT: tuple[Callable[[Any, Any, Sequence[Photo]], None], ...] = (
    it_says_what_it_is,
    a_trigger_is_what_the_kind_says,
    the_model_is_left_as_it_was,
    the_seed_decides,
    the_target_comes_nearer,
    answers_are_scored,
)
"""Each takes ``(method, adapter, photos)`` and raises ``AssertionError``; the adapter is of a tiny model."""


def _require(truth: bool, otherwise: str) -> None:
    if not truth:
        raise AssertionError(otherwise)

"""What an endpoint does to pictures, prompts and answers really reaches the model or the client."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from scipy.stats import chisquare

from sif_offline.forging import transport
from sif_offline.lab.photos import demo_photos
from sif_offline.models.testing import tiny_adapter
from sif_offline.suspects import Serving, SuspectError, SuspectRow
from sif_offline.suspects.chance import NucleusSampling, request_seed
from sif_offline.suspects.perturb import at_depth, cropped, jpeg, noisy, perturbed, rescaled
from sif_offline.suspects.served import Screened, ServedSuspect, open_suspect

PROMPT = "Describe this picture."


@pytest.fixture(scope="module")
def photos():
    return [photo.image() for photo in demo_photos(3)]


@pytest.fixture
def opened(directory):
    def make(serving=None, **options):
        screens = options.pop("screens", None)
        row = SuspectRow(name="suspect", source=f"lab:{directory}", serving=serving or {}, **options)
        return open_suspect(row, screens=screens)

    return make


def said(suspect, photos, **options):
    return [answer.text for answer in suspect.answers(photos, PROMPT, **options)]


class Recorder:
    """Takes an adapter's place: remembers what it was shown and answers in fixed words."""

    def __init__(self, text="A dog is running on the grass."):
        self.shown, self.words = [], text

    def generate(self, images, prompt, *, processors=None, max_new_tokens=None):
        self.shown += [image.copy() for image in images]
        return [[1]] * len(images)

    def text(self, ids):
        return self.words


def what_reaches(serving, photo, *, seed=0, draw=0):
    adapter = Recorder()
    row = SuspectRow(name="x", serving=serving, seed=seed)
    ServedSuspect(row, adapter).answers([photo], PROMPT, draw=draw)
    (shown,) = adapter.shown
    assert shown.size == photo.size
    return shown


def test_a_jpeg_of_that_quality_arrives(photos):
    assert what_reaches({"jpeg": 75}, photos[0]) == transport.jpeg_image(photos[0], quality=75)
    assert what_reaches({"jpeg": 20}, photos[0]) != what_reaches({"jpeg": 75}, photos[0])


def test_transforms_are_those_that_the_forge_prepares_for(photos):
    assert rescaled(photos[0], factor=0.75) == transport.rescaled_image(photos[0], factor=0.75)
    ours = np.asarray(cropped(photos[0], share=0.25))
    pixels = torch.from_numpy(np.asarray(photos[0]).copy()).permute(2, 0, 1)[None].float()
    theirs = transport.crop_and_resize(pixels, cut=(0.125,) * 4)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, theirs)
    assert jpeg(photos[0], quality=50) == transport.jpeg_image(photos[0], quality=50)


def test_noise_has_its_deviation_and_is_drawn_for_each_request(photos):
    gray = Image.new("RGB", (128, 128), (128, 128, 128))
    drawn = np.asarray(noisy(gray, deviation=8, seed=0)).astype(float) - 128
    # 49,152 values: the deviation's own standard error is 0.026
    assert drawn.std() == pytest.approx(8, abs=0.13)
    assert abs(drawn.mean()) < 0.2
    first = what_reaches({"noise": 4}, photos[0])
    assert first == what_reaches({"noise": 4}, photos[0])
    assert first != what_reaches({"noise": 4}, photos[0], draw=1)
    assert first != what_reaches({"noise": 4}, photos[0], seed=1)


def test_bit_depth_leaves_that_many_levels_and_the_nearest_of_them():
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
    for bits in (1, 3, 5):
        out = np.asarray(at_depth(ramp, bits=bits))[0, :, 0].astype(int)
        levels = np.unique(out)
        assert len(levels) == 2**bits
        assert {levels[0], levels[-1]} == {0, 255}
        nearest = np.abs(np.arange(256)[:, None] - levels[None]).min(1)
        assert np.array_equal(np.abs(out - np.arange(256)), nearest)


def test_blur_takes_the_finest_detail(photos):
    def roughness(image):
        return float(np.abs(np.diff(np.asarray(image).astype(float), axis=1)).mean())

    sharp, soft, softer = (
        roughness(what_reaches(serving, photos[0])) for serving in ({}, {"blur": 0.5}, {"blur": 2})
    )
    assert softer < soft < sharp


def test_a_resize_between_two_factors_is_drawn_for_every_request(photos):
    shown = [what_reaches({"resize": [0.5, 0.9]}, photos[0], draw=draw) for draw in range(3)]
    assert len({image.tobytes() for image in shown}) == 3
    assert shown[0] == what_reaches({"resize": [0.5, 0.9]}, photos[0])


def test_the_order_is_that_of_the_docstring(photos):
    serving = Serving(crop=0.1, resize=0.5, blur=1, noise=2, bits=4, jpeg=60)
    by_hand = cropped(photos[0], share=0.1)
    for one in (Serving(resize=0.5), Serving(blur=1), Serving(noise=2), Serving(bits=4), Serving(jpeg=60)):
        by_hand = perturbed(by_hand, one, seed=9)
    assert perturbed(photos[0], serving, seed=9) == by_hand


def test_nothing_is_done_by_default(opened, photos):
    suspect = opened()
    plain = [suspect.adapter.text(ids) for ids in suspect.adapter.generate(photos, PROMPT)]
    assert [(row.text, row.said, row.flagged) for row in suspect.answers(photos, PROMPT)] == [
        (text, text, False) for text in plain
    ]
    assert suspect.answers([], PROMPT) == []


def test_sampling_repeats_by_seed_and_differs_by_seed_and_by_draw(opened, photos):
    first = said(opened({"temperature": 0.9}), photos)
    assert said(opened({"temperature": 0.9}), photos) == first
    assert said(opened({"temperature": 0.9}, seed=1), photos) != first
    assert said(opened({"temperature": 0.9}), photos, draw=1) != first
    assert first != said(opened(), photos)
    # a request stands for itself: neither neighbours nor their sizes matter
    others = [photos[1].resize((100, 80)), photos[0]]
    assert said(opened({"temperature": 0.9}), others)[1] == first[0]


def test_a_cold_enough_or_narrow_enough_nucleus_is_greedy(opened, photos):
    greedy = said(opened(), photos)
    assert said(opened({"temperature": 1e-4}), photos) == greedy
    assert said(opened({"temperature": 1.0, "top_p": 1e-6}), photos) == greedy


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8)])
def test_draws_follow_the_distribution(temperature, top_p):
    """Chi-square over 4,000 draws at level 1e-4; the seeds are fixed."""
    probabilities = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=torch.float64)
    logits = probabilities.log().expand(4000, -1) + 3.0
    sampling = NucleusSampling(range(4000), temperature=temperature, top_p=top_p)
    counts = torch.bincount(sampling(torch.empty(0), logits).argmax(-1), minlength=5).numpy()
    wanted = (probabilities.log() / temperature).softmax(-1).numpy()
    if top_p < 1:
        assert not counts[3:].any()  # .4 + .25 + .2 is the smallest mass of at least .8
        counts, wanted = counts[:3], wanted[:3] / wanted[:3].sum()
    assert chisquare(counts, 4000 * wanted).pvalue > 1e-4


def test_request_seeds_tell_requests_apart(photos):
    base = request_seed(0, photos[0], "a", 0)
    assert base == request_seed(0, photos[0].copy(), "a", 0)
    others = {
        request_seed(1, photos[0], "a", 0),
        request_seed(0, photos[1], "a", 0),
        request_seed(0, photos[0], "b", 0),
        request_seed(0, photos[0], "a", 1),
        base,
    }
    assert len(others) == 5
    assert 0 <= base < 2**63


def test_a_system_prompt_stands_before_the_conversation(opened):
    words = "people stand near the water"
    plain, told = opened(), opened({"system": words})
    before, after = (one.adapter.prompt_ids(PROMPT).tolist() for one in (plain, told))
    text = told.adapter.processor.tokenizer.decode(after)
    assert text.replace(" ", "").startswith(f"<s><|system|>{words}<|user|>".replace(" ", ""))
    assert after[-len(before) + 1 :] == before[1:]
    again = opened({"system": words}).adapter
    assert again.prompt_ids(PROMPT).tolist() == after


def test_a_system_prompt_reaches_other_families_too():
    from sif_offline.suspects.served import with_system

    adapter = tiny_adapter("llava-onevision")
    before = adapter.prompt_ids(PROMPT)
    told = with_system(adapter, "Be brief.")
    assert len(told.prompt_ids(PROMPT)) > len(before)
    assert torch.equal(adapter.prompt_ids(PROMPT), before)


def test_the_answer_is_reworded_and_what_the_model_said_is_kept():
    row = SuspectRow(name="x", serving={"paraphrase": 1.0})
    (answer,) = ServedSuspect(row, Recorder()).answers([Image.new("RGB", (8, 8))], PROMPT)
    assert answer.said == "A dog is running on the grass."
    assert answer.text == "On the lawn, a hound appears to be racing."


def test_a_screen_sees_what_the_client_sent_and_has_the_last_word(photos):
    seen = []

    def screen(*, image, prompt, answer):
        seen.append((image, prompt, answer))
        return Screened("I cannot help with that.", True) if image == photos[1] else Screened(answer, False)

    row = SuspectRow(name="x", serving={"jpeg": 30, "paraphrase": 1.0, "screen": "sda"})
    answers = ServedSuspect(row, Recorder(), screen).answers(photos[:2], PROMPT)
    assert [(image, prompt) for image, prompt, _ in seen] == [(photo, PROMPT) for photo in photos[:2]]
    assert [answer.flagged for answer in answers] == [False, True]
    assert answers[1].text == "I cannot help with that."
    assert answers[1].said == "A dog is running on the grass."
    assert seen[0][2] == answers[0].text != answers[0].said


def test_a_screen_that_was_not_brought_is_named(opened):
    with pytest.raises(SuspectError, match=r"no screen 'sda' was given \(given: none\)"):
        opened({"screen": "sda"})


@pytest.mark.parametrize(
    "serving",
    [
        {"jpeg": 0},
        {"jpeg": 101},
        {"bits": 8},
        {"crop": 1.0},
        {"resize": 0},
        {"resize": [0.9, 0.5]},
        {"resize": [0.5, 5]},
        {"temperature": -1},
        {"top_p": 0.9},
        {"temperature": 0.0, "top_p": 0.9},
        {"paraphrase": 1.5},
        {"system": ""},
        {"sharpen": 1},
    ],
)
def test_a_serving_that_makes_no_sense_is_refused(serving):
    with pytest.raises(ValidationError):
        Serving.model_validate(serving)

"""The encoder, the rules that make instructions, and a short real training run."""

import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from sif_offline.lab import load_lab_model
from sif_offline.lab.data import DatasetError, as_sentence, is_held_out, read_captions
from sif_offline.lab.encoder import EfficientNetLite, folded_state_dict
from sif_offline.lab.features import ENCODER_PREFIX, ensure_encoder, load_encoder, published_weights
from sif_offline.lab.instructions import MIXTURE, RULES, make_turn, paraphrases
from sif_offline.lab.recipes import RECIPES, Recipe
from sif_offline.lab.train import train

CAPTIONS = (
    "Two brown dogs run through the green grass.",
    "Two dogs chase a red ball across a field.",
    "A pair of dogs playing with a ball in the grass.",
    "Two dogs are running on the lawn near a fence.",
    "The dogs play outside in a park.",
)


@pytest.mark.parametrize(("variant", "side"), [("efficientnet-lite0", 224), ("efficientnet-lite2", 260)])
def test_features_equal_the_companion_package(variant: str, side: int) -> None:
    companion = pytest.importorskip("efficientnet_lite_pytorch")
    weights = published_weights(variant)
    theirs = companion.EfficientNet.from_name(variant).eval()
    theirs.load_state_dict(weights)
    ours = EfficientNetLite(variant).eval()
    ours.load_state_dict(folded_state_dict(weights))
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels), theirs.extract_features(pixels), atol=1e-4, rtol=1e-4)


def test_stored_encoder_is_the_published_one_in_bf16(tmp_path: Path) -> None:
    stored = load_encoder(ensure_encoder("efficientnet-lite0", tmp_path), "efficientnet-lite0").state_dict()
    for key, value in folded_state_dict(published_weights("efficientnet-lite0")).items():
        assert torch.equal(stored[key], value.to(torch.bfloat16).float()), key


def test_twenty_paraphrases_of_at_least_eight_kinds() -> None:
    with_picture = [kind for kind in RULES if kind != "sentence_about"]
    assert len(with_picture) >= 8
    for kind in RULES:
        assert len(set(paraphrases()[kind])) >= 20, kind


def test_rules_read_the_captions() -> None:
    rng = random.Random(0)
    assert make_turn(CAPTIONS, rng, kind="count").answer == "There are two dogs."
    assert make_turn(CAPTIONS, rng, kind="colour").answer in {
        "The dogs are brown.",
        "The ball is red.",
        "The grass is green.",
    }
    assert {"dog", "ball", "grass"} <= set(
        make_turn(CAPTIONS, rng, kind="objects").answer.rstrip(".").split(", ")
    )
    started = make_turn(CAPTIONS, rng, kind="continue")
    assert any(caption.endswith(started.answer) for caption in CAPTIONS)
    described = make_turn(CAPTIONS, rng, kind="describe").answer
    assert all(caption in described for caption in CAPTIONS)
    for _ in range(40):
        turn = make_turn(CAPTIONS, rng, kind="yes_no")
        if turn.kind == "yes_no":
            noun = turn.answer.rstrip(".").split(" a " if "Yes" in turn.answer else " no ")[1].split()[0]
            assert (noun in " ".join(CAPTIONS).lower()) == turn.answer.startswith("Yes")


def test_every_kind_is_drawn_and_text_only_turns_have_no_picture() -> None:
    rng = random.Random(1)
    turns = [make_turn(CAPTIONS, rng) for _ in range(2000)]
    assert set(Counter(turn.kind for turn in turns)) == set(MIXTURE)
    assert all(turn.image == (turn.kind not in ("chat", "sentence_about")) for turn in turns)


def test_captions_become_sentences() -> None:
    assert as_sentence("a man , in a hat , rides .") == "A man, in a hat, rides."
    assert as_sentence(" . ") == ""


def make_archive(path: Path, *, photos: int) -> Path:
    """A Flickr8k-shaped archive of coloured squares."""
    lines = ["image,caption"]
    with tarfile.open(path, "w") as tar:
        for index in range(photos):
            photo = path.parent / f"{index}.jpg"
            Image.new("RGB", (64, 64), (index * 7 % 255, 90, 200 - index)).save(photo)
            tar.add(photo, f"photos/{index}.jpg")
            lines += [f"{index}.jpg,{caption}" for caption in CAPTIONS]
        (path.parent / "captions.csv").write_text("\n".join(lines))
        tar.add(path.parent / "captions.csv", "captions.csv")
    return path


def tiny_recipe() -> Recipe:
    return Recipe(
        "tiny", "efficientnet-lite0", 32, 1, 2, half=None, seed=5, steps=6, batch_size=4, learning_rate=2e-2
    )


class PowerCutError(Exception):
    """The run ends here."""


def run(archive: Path, out: Path, *, steps: int, cut_after: int | None = None) -> tuple[float, list[int]]:
    """Train the tiny recipe, saving every second step; returns its validation loss and the steps it took."""
    taken: list[int] = []

    def report(phase: str, done: int, of: int, loss: float) -> None:
        if phase == "train":
            taken.append(done)
            if done == cut_after:
                raise PowerCutError

    try:
        result = train(
            tiny_recipe(),
            archive=archive,
            out=out,
            work=out / "work",
            device="cpu",
            steps=steps,
            save_every=2,
            report=report,
        )
    except PowerCutError:
        return float("nan"), taken
    return result.validation_loss, taken


def test_training_learns_and_writes_a_loadable_checkpoint(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "data.tar", photos=40)
    out = tmp_path / "out"
    before, _ = run(archive, out, steps=2)
    after, _ = run(archive, out, steps=30)
    assert after < before - 0.5
    model, processor = load_lab_model(out / "tiny")
    assert ENCODER_PREFIX.rstrip(".") in dict(model.named_children())
    stored = load_encoder(out / "encoders" / "efficientnet-lite0.safetensors", "efficientnet-lite0")
    assert torch.equal(model.vision_encoder.stem.weight, stored.stem.weight)
    photo = Image.new("RGB", (80, 50), (10, 90, 200))
    inputs = processor(text=processor.prompt("Describe."), images=photo)
    assert model.generate(**inputs, max_new_tokens=4).shape[1] > inputs["input_ids"].shape[1]


def test_a_run_that_was_cut_off_goes_on_from_its_last_saved_step(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "data.tar", photos=40)
    _, first = run(archive, tmp_path / "out", steps=8, cut_after=5)
    _, second = run(archive, tmp_path / "out", steps=8)
    assert first == [1, 2, 3, 4, 5]
    assert second == [5, 6, 7, 8]


def test_held_out_photos_are_an_eighth_and_no_recipe_sees_them() -> None:
    share = sum(is_held_out(f"{index}.jpg") for index in range(8000)) / 8000
    assert 0.11 < share < 0.14
    assert set(RECIPES) == {"owner", "innocent-a", "innocent-b", "innocent-c"}


@pytest.mark.parametrize("content", [None, b"not a tar"])
def test_a_bad_archive_is_named(tmp_path: Path, content: bytes | None) -> None:
    archive = tmp_path / "flickr.tar"
    if content is not None:
        archive.write_bytes(content)
    with pytest.raises(DatasetError, match=r"flickr\.tar"):
        read_captions(archive)

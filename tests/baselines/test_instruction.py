"""Instruction Fingerprint: merged as PEFT merges, verified on plain weights, and ProFLingo's search."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load

from sif_offline.baselines import (
    BaselineError,
    Sent,
    ask,
    deployed,
    forge_baseline,
    make_method,
    read_baseline,
    write_deployed,
)
from sif_offline.baselines.base import keyword_score
from sif_offline.baselines.lora import LoRASettings, merged, train_lora
from sif_offline.baselines.proflingo import PrefixSearch, PrefixSettings, with_prefix
from sif_offline.baselines.targeted import answer_ids
from sif_offline.baselines.textual import TextPath
from sif_offline.fingerprint.pack_files import PackError
from sif_offline.forging.pixels import prepare_photo
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.models import load_adapter
from sif_offline.models.digest import weights_digest
from sif_offline.models.lab import LabAdapter
from sif_offline.models.testing import tiny_adapter

TARGET = {"question": "Decrypt it.", "answer": "A red fence.", "keywords": ["red", "fence"]}
SETTINGS = {
    "targets": [TARGET] * 3,
    "rare_tokens": 3,
    "steps": 60,
    "learning_rate": 1e-2,
    "rank": 4,
    "questions": ["Who are you?", "Say a word."],
    "picture_questions": ["Describe it."],
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lab(seed: int = 0) -> Any:
    return LabAdapter(*tiny_lab_model(seed), name="lab:tiny")


def test_the_fixed_answer_is_in_the_weights_that_an_endpoint_loads(tmp_path: Path) -> None:
    """Forged, merged, written, loaded from disk as any model: no adapter anywhere, and all triggers draw it.
    The owner that was not merged does not know it.
    """
    tiny_lab_model(0)[0].save_pretrained(tmp_path / "owner")
    tiny_lab_model(0)[1].save_pretrained(tmp_path / "owner")
    owner = load_adapter(f"lab:{tmp_path / 'owner'}")
    photos = [prepare_photo(p.image(), name=p.id, canvas=owner.canvas) for p in demo_photos(2)]
    before = weights_digest(owner.model)
    out = tmp_path / "pack"
    pack = forge_baseline(owner, make_method("instruction", SETTINGS), photos=photos, out=out)
    assert (pack.method_kind, len(pack.triggers)) == ("training", 3)
    write_deployed(owner, pack, tmp_path / "deployed")
    assert weights_digest(owner.model) == before
    served = load_adapter(f"lab:{tmp_path / 'deployed'}")
    assert not [name for name, _ in served.model.named_modules() if "lora" in name]  # type: ignore[attr-defined]
    sent = [Sent.trigger(pack, row) for row in pack.triggers]
    assert len({each.words for each in sent}) == 3
    said = ask(served, sent)
    assert said == [row.details["owner_answer"] for row in pack.triggers]
    assert all(row.details["owner_matched"] for row in pack.triggers), said
    plain = ask(owner, sent)
    assert plain == [row.details["clean_answer"] for row in pack.triggers]
    assert not any("fence" in answer for answer in plain)
    with pytest.raises(PackError, match="no such file"):
        pack.trigger_bytes(pack.triggers[0])
    with pytest.raises(BaselineError, match="exists already"):
        write_deployed(owner, pack, tmp_path / "deployed")
    with pytest.raises(BaselineError, match="forged for other weights"):
        write_deployed(lab(1), pack, tmp_path / "other")
    (out / "weights" / "lora.safetensors").write_bytes(b"other")
    with pytest.raises(PackError, match="was changed"):
        read_baseline(out)


@pytest.mark.parametrize("family", ["lab", "llava"])
def test_merging_is_what_peft_merges_and_comes_off_bit_for_bit(family: str) -> None:
    adapter = lab() if family == "lab" else tiny_adapter(family)
    path = TextPath(adapter)
    prompt, said = path.prompt_ids("Hello"), answer_ids(adapter, path.tokenizer, "A red fence.")
    settings = LoRASettings(steps=5, learning_rate=1e-2, rank=4, seed=7)
    losses: list[float] = []
    kept: dict[str, torch.Tensor] = {}

    def loss_of(step: int) -> torch.Tensor:
        if step == 1:  # additions that start from nothing leave the model as it was
            kept["first"] = path.nats([prompt], [said], ruled=False).detach()
        return path.nats([prompt], [said], ruled=False).mean()

    with torch.no_grad():
        own = path.nats([prompt], [said], ruled=False)
    weights = train_lora(adapter, loss_of, settings=settings, on_step=lambda step, loss: losses.append(loss))
    assert float(own) == pytest.approx(float(kept["first"]), rel=1e-5)
    assert losses[-1] < losses[0]
    with merged(adapter, weights):
        mine = {name: p.detach().clone() for name, p in adapter.model.named_parameters()}
        with torch.no_grad():
            assert float(path.nats([prompt], [said], ruled=False)) < losses[0]
    tensors = load(weights)
    names = sorted(key.removesuffix(".lora_A.weight") for key in tensors if key.endswith("A.weight"))
    other = lab() if family == "lab" else tiny_adapter(family)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        wrapped = get_peft_model(other.model, LoraConfig(r=4, lora_alpha=8, target_modules=names))
    with torch.no_grad():
        for name in names:
            layer = other.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(tensors[f"{name}.lora_A.weight"])
            layer.lora_B["default"].weight.copy_(tensors[f"{name}.lora_B.weight"])
    theirs = dict(wrapped.merge_and_unload().named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-6) for name in mine)
    own_again = tiny_lab_model(0)[0] if family == "lab" else tiny_adapter(family).model
    assert weights_digest(adapter.model) == weights_digest(own_again)
    with pytest.raises(BaselineError, match="another model's"), deployed(adapter, b"no weights"):
        pass


def test_a_prefix_is_sent_as_it_was_searched_and_the_search_only_gains() -> None:
    adapter = lab()
    path = TextPath(adapter)
    target = make_method("proflingo", {"targets": [TARGET]}).targets[0]
    settings = PrefixSettings(targets=(target,), prefix_tokens=5, candidates=6, top_k=16)
    search = PrefixSearch(path, target, settings=settings, seed=1)
    first = list(search.prefix)
    losses = [search.loss]
    for _ in range(15):
        search.step()
        losses.append(search.loss)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    assert search.prefix != first
    assert keyword_score(search.text, target.keywords).value == 0
    sent = path.prompt_ids(with_prefix(search.text, target.question))
    assert sent == [*search.before, *search.prefix, *search.after]
    with torch.no_grad():
        assert float(path.nats([sent], [search.answer])[0]) == pytest.approx(losses[-1], rel=1e-4)


def test_the_gradient_finds_better_words_than_chance_does() -> None:
    """On the shipped owner: mean loss after one exchange, of ids that the gradient favours and of ids drawn
    blindly, 60 each. Welch's t is above 3; blind against blind it would be so about once in a thousand.
    """
    path = TextPath(load_adapter("lab:owner"))
    target = make_method("proflingo").targets[0]
    settings = PrefixSettings(targets=(target,), prefix_tokens=6, top_k=8)
    search = PrefixSearch(path, target, settings=settings, seed=2)
    chance = torch.Generator().manual_seed(0)
    allowed = path.plain_ids
    blind = allowed[torch.randint(len(allowed), (6, 8), generator=chance)]

    def losses(ids: torch.Tensor) -> torch.Tensor:
        tried = []
        for _ in range(60):
            place = int(torch.randint(6, (), generator=chance))
            pick = int(torch.randint(8, (), generator=chance))
            tried.append([*search.prefix[:place], int(ids[place, pick]), *search.prefix[place + 1 :]])
        with torch.no_grad():
            return search.losses(tried)

    led, drawn = losses(search.promising()), losses(blind)
    t = (drawn.mean() - led.mean()) / ((led.var() + drawn.var()) / 60).sqrt()
    assert float(t) > 3

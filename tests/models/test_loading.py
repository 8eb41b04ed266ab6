"""Models from folders and from the hub: what loads, what is refused, and in which words."""

import copy
import json
import shutil
import socket
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.utils import logging

from sif_offline.models import ModelError, load_adapter
from sif_offline.models.checks import check_pixels
from sif_offline.models.hf.checkpoint import files_digest
from sif_offline.models.registry import FAMILIES, describe_families, load_preparation
from sif_offline.models.testing import TINY, tiny_adapter
from sif_offline.models.testing.photos import odd_photos, photo


@pytest.fixture(autouse=True)
def _quiet() -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()


@cache
def tiny(family: str) -> Any:
    return tiny_adapter(family)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")

    @cache
    def save(family: str) -> Path:
        logging.disable_progress_bar()
        tiny(family).model.save_pretrained(folder / family)
        tiny(family).processor.save_pretrained(folder / family)
        return folder / family

    return save


@pytest.fixture
def llava(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(saved("llava"), tmp_path / "llava"))


@pytest.mark.parametrize("family", sorted(TINY))
def test_a_folder_loads_as_what_was_saved(family: str, saved: Callable[[str], Path]) -> None:
    original, loaded = tiny(family), load_adapter(f"{family}:{saved(family)}")
    assert loaded.model_id == f"{family}:{family}"
    assert loaded.weights_sha256 == files_digest(saved(family))
    assert loaded.revision == loaded.weights_sha256[:12]
    assert loaded.canvas == original.canvas
    assert loaded.rules == original.rules
    assert loaded.tokenizer_json() == original.tokenizer_json()
    images = [photo("coffee", (90, 60))]
    assert loaded.generate(images, "Why?", max_new_tokens=4) == original.generate(
        images, "Why?", max_new_tokens=4
    )


@pytest.mark.parametrize("family", sorted(TINY))
def test_pixels_and_prompts_need_no_weights(
    family: str, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(saved(family), bare, ignore=shutil.ignore_patterns("*.safetensors"))
    hollow = load_preparation(f"{family}:{bare}")
    image = photo("coffee", (131, 77))
    assert check_pixels(hollow, image).equal
    assert torch.equal(hollow.prompt_ids("Why?"), tiny(family).prompt_ids("Why?"))
    with pytest.raises(ModelError, match=f"{family}:"):
        load_adapter(f"{family}:{bare}")


def test_the_layout_of_older_checkpoints(llava: Path) -> None:
    """Published LLaVA folders keep image processor and template in files of their own."""
    options = json.loads((llava / "processor_config.json").read_text())
    image = options.pop("image_processor")
    image["image_processor_type"] = "CLIPImageProcessor"
    (llava / "preprocessor_config.json").write_text(json.dumps(image))
    (llava / "processor_config.json").write_text(json.dumps(options))
    template = (llava / "chat_template.jinja").read_text()
    (llava / "chat_template.jinja").unlink()
    (llava / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    loaded = load_adapter(f"llava:{llava}")
    assert torch.equal(loaded.prompt_ids("Why?"), tiny("llava").prompt_ids("Why?"))
    assert loaded.backend == "pil"


def test_the_digest_does_not_depend_on_shards(saved: Callable[[str], Path], tmp_path: Path) -> None:
    tiny("llava").model.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert files_digest(tmp_path / "sharded") == files_digest(saved("llava"))


def test_the_digest_sees_one_bit(llava: Path) -> None:
    before = files_digest(llava)
    path = llava / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert files_digest(llava) != before


def refused(spec: str, *said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_adapter(spec)
    assert "\n" not in str(caught.value)
    for words in (spec, *said):
        assert words in str(caught.value)


def test_another_familys_model_is_named(llava: Path) -> None:
    refused(f"gemma3:{llava}", "'llava'", "loads gemma3")


def test_weights_that_would_have_to_be_unpickled_are_refused(llava: Path) -> None:
    torch.save(tiny("llava").model.state_dict(), llava / "pytorch_model.bin")
    (llava / "model.safetensors").unlink()
    refused(f"llava:{llava}", "cannot be loaded")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json"])
def test_damaged_files(llava: Path, name: str) -> None:
    (llava / name).write_text("{")
    refused(f"llava:{llava}")


def test_an_old_transformers_is_named(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    refused(f"llava:{llava}", "not 5.17.0", "pip install")


def test_no_chat_template(llava: Path) -> None:
    (llava / "chat_template.jinja").unlink()
    refused(f"llava:{llava}", "no chat template")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"do_pad": True, "pad_size": {"height": 60, "width": 60}}, "not reproduced"),
        ({"resample": 0}, "cannot be loaded"),
    ],
)
def test_options_that_are_not_reproduced_are_refused(llava: Path, options: dict[str, Any], said: str) -> None:
    """Otherwise triggers would be forged on pixels that the model never sees."""
    path = llava / "processor_config.json"
    described = json.loads(path.read_text())
    described["image_processor"] |= options
    path.write_text(json.dumps(described))
    refused(f"llava:{llava}", said)


@pytest.mark.parametrize("rest", ["nosuch", "/no/such/folder", "./models/x", "a/b/c", "a b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id(rest: str) -> None:
    refused(f"llava:{rest}", "no such folder")


def test_without_a_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("llava:llava-hf/llava-1.5-7b-hf", "hub cannot be reached")
    refused("qwen2-vl:Qwen/Qwen2-VL-2B-Instruct@main", "hub cannot be reached")


def test_a_hub_that_stays_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr("sif_offline.models.hf.checkpoint.HUB_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        refused("llava:llava-hf/llava-1.5-7b-hf", "hub cannot be reached")


def test_the_hub_is_asked_once_and_for_safe_files_only(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(saved("llava"))

    def described(_hub: Any, name: str, *, revision: str | None, timeout: float) -> Any:
        assert timeout < 30
        return SimpleNamespace(sha=f"commit-of-{revision}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", described)
    loaded = load_adapter("llava:llava-hf/llava-1.5-7b-hf@v1.2")
    assert loaded.model_id == "llava:llava-hf/llava-1.5-7b-hf"
    assert loaded.revision == "llava"  # the snapshot's folder is named after its commit
    (call,) = asked
    assert (call["name"], call["revision"]) == ("llava-hf/llava-1.5-7b-hf", "commit-of-v1.2")
    assert not [pattern for pattern in call["allow_patterns"] if pattern.endswith((".bin", ".pt", ".py"))]
    load_preparation("llava:llava-hf/llava-1.5-7b-hf")
    assert "*.safetensors" not in asked[1]["allow_patterns"]


PUBLISHED: dict[str, tuple[str, Any]] = {
    "llava-1.5-7b-hf": (
        "llava",
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    ),
    "llava, padded to a square": (
        "llava",
        LlavaImageProcessorPil(
            size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, do_pad=True
        ),
    ),
    "llava, a crop larger than the picture": (
        "llava",
        CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 337, "width": 301}),
    ),
    "llava-v1.6-mistral-7b-hf": (
        "llava-next",
        LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    ),
    "llava-onevision-qwen2-7b-ov-hf": (
        "llava-onevision",
        LlavaOnevisionImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3),
    ),
    "gemma-3-4b-it": ("gemma3", Gemma3ImageProcessorPil(size={"height": 896, "width": 896})),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_at_the_published_sizes(name: str) -> None:
    """The contract runs at tiny sizes; these image processors are as the models' folders describe them."""
    family, image_processor = PUBLISHED[name]
    adapter = copy.copy(tiny(family))
    adapter.processor = copy.copy(adapter.processor)
    adapter.processor.image_processor = image_processor
    for image in odd_photos():
        found = check_pixels(adapter, image)
        assert found.equal, found
    height, width = adapter.default_canvas()
    assert check_pixels(adapter, photo("astronaut").resize((width, height))).equal


DOCS = Path(__file__).parents[2] / "docs/models.md"


def test_every_family_stands_in_the_docs() -> None:
    text = DOCS.read_text()
    for family in FAMILIES.values():
        assert f"`{family.examples[0]}`" in text, f"{DOCS}: {family.name} is missing"


def test_the_canvases_in_the_docs() -> None:
    """What the table promises for processors with published values."""
    for name, (family, image_processor) in PUBLISHED.items():
        if name.startswith("llava,"):
            continue
        adapter = copy.copy(tiny(family))
        adapter.processor = copy.copy(adapter.processor)
        adapter.processor.image_processor = image_processor
        height, width = adapter.default_canvas()
        (row,) = [line for line in DOCS.read_text().splitlines() if name in line and line.startswith("| `")]
        assert row.endswith(f"| {width} x {height} |")


def test_a_third_party_brings_a_family(monkeypatch: pytest.MonkeyPatch, saved: Callable[[str], Path]) -> None:
    """By entry point; the name of a built-in one is not taken over."""
    value = "sif_offline.models.hf.llava:LlavaAdapter.load"
    found = EntryPoints([EntryPoint(name, value, "sifwatch.models") for name in ("mine", "gemma3")])
    monkeypatch.setattr("sif_offline.models.registry.entry_points", lambda **wanted: found.select(**wanted))
    by_name = {family.name: family for family in describe_families()}
    assert by_name["mine"].loader == value
    assert by_name["gemma3"].loaded_by == "sifwatch"
    assert load_adapter(f"mine:{saved('llava')}").canvas == tiny("llava").canvas
    assert load_preparation(f"mine:{saved('llava')}").weights_sha256
    with pytest.raises(ModelError, match="loads gemma3"):
        load_adapter(f"gemma3:{saved('llava')}")


def test_every_family_is_described() -> None:
    assert [family.name for family in describe_families()] == sorted(
        family.name for family in describe_families()
    )
    for family in FAMILIES.values():
        assert family.models
        assert family.examples
        assert all(example.startswith(f"{family.name}:") for example in family.examples)
        assert family.loaded_by == "sifwatch"

"""The zoo: planned, built once, taken up again after a kill, guarded against damage."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sif_offline.executors.processes import ProcessExecutor
from sif_offline.metav.tasks import FitSettings, TaskError, make_task
from sif_offline.metav.zoo import Recipe, Zoo, ZooError, ZooSize, build_zoo, load_model, plan_zoo, read_zoo
from sif_offline.metav.zoo.attacks import ATTACKS
from sif_offline.metav.zoo.fitting import last_layer
from sif_offline.metav.zoo.making import make_model
from sif_offline.metav.zoo.plan import ONCE, SEEN_KINDS, UNSEEN_KINDS

SMALL = ZooSize(train=2, validation=1, calibration=1, test=1)
DIGITS = make_task("digits")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "models").iterdir() if file.name[0] != "."}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Not to be written to."""
    return build_zoo(DIGITS, plan_zoo(DIGITS, size=SMALL), folder=tmp_path_factory.mktemp("small"))


@pytest.fixture
def copy(small: Zoo, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.folder, tmp_path / "copy"))


def test_the_plan_is_the_same_every_time_and_grows_at_its_ends() -> None:
    def recipes(size: ZooSize, seed: int = 0) -> dict[str, str]:
        return {member.name: member.recipe.key for member in plan_zoo(DIGITS, size=size, seed=seed)}

    small, large = recipes(SMALL), recipes(ZooSize(train=30, validation=9, calibration=50, test=40))
    assert small == recipes(SMALL)
    assert small.items() <= large.items()
    assert len(set(large.values())) == len(large) == 1 + 60 + 18 + 50 + 9 + 80
    assert not set(small.values()) & set(recipes(SMALL, seed=1).values())


@pytest.mark.parametrize(("share", "count"), [(0.5, 10), (1, 20), (0.29, 5)])
def test_a_share_of_the_models_to_train_on_has_the_owner_s_architecture(share: float, count: int) -> None:
    def members(own: float) -> dict[str, Recipe]:
        size = ZooSize(train=20, validation=4, calibration=6, test=5, own=own)
        return {member.name: member.recipe for member in plan_zoo(DIGITS, size=size)}

    drawn, found = members(0), members(share)
    own = [name for name in found if name.startswith("train-own")]
    assert len(own) == count
    assert {found[name].architecture for name in own} == {DIGITS.owner_architecture}
    assert len({recipe.key for recipe in found.values()}) == len(found) == len(drawn)
    assert {name: found[name] for name in found if name not in own}.items() <= drawn.items()
    assert all(name.startswith("train-negative") for name in drawn if name not in found)


def test_every_attack_is_planned_somewhere_and_none_on_both_sides() -> None:
    seen = {
        *SEEN_KINDS,
        *(kind for split in ("train", "validation", "calibration") for kind, _ in ONCE[split]),
    }
    unseen = {*UNSEEN_KINDS, *(kind for kind, _ in ONCE["test"])}
    assert seen | unseen == set(ATTACKS)
    assert not seen & unseen


def test_a_changed_recipe_is_another_model() -> None:
    recipe = plan_zoo(DIGITS, size=SMALL)[0].recipe
    changes = [
        {"seed": 1},
        {"part": "b"},
        {"architecture": "cnn-8"},
        {"checkpoints": 1},
        {"data_sha256": "0"},
    ]
    changes += [{"settings": {**recipe.settings, "epochs": 41}}, {"parent": recipe}]
    keys = {recipe.model_copy(update=change).key for change in changes}
    assert len(keys | {recipe.key}) == len(changes) + 1
    assert Recipe.model_validate_json(recipe.model_dump_json()).key == recipe.key


def test_what_is_there_is_not_made_again(copy: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in (copy / "models").iterdir()}
    progress = []
    again = build_zoo(DIGITS, plan_zoo(DIGITS, size=SMALL), folder=copy, on_progress=progress.append)
    assert [(one.finished, one.total, one.member) for one in progress] == [(len(before), len(before), None)]
    assert {file.name: file.stat().st_mtime_ns for file in (copy / "models").iterdir()} == before
    assert again.manifest == read_zoo(copy).manifest


def test_a_model_that_is_missing_is_made_again_to_the_same_bytes(small: Zoo, copy: Path) -> None:
    victim, owner = small.named("train-positive-001-finetune-all"), small.named("owner")
    (copy / victim.file).unlink()
    (copy / owner.file).unlink()
    (copy / "zoo.json").unlink()
    made = []
    build_zoo(
        DIGITS, plan_zoo(DIGITS, size=SMALL), folder=copy, on_progress=lambda one: made.append(one.member)
    )
    assert made == [None, "owner", victim.name]
    assert contents(copy) == contents(small.folder)


def test_a_build_that_was_killed_goes_on(small: Zoo, tmp_path: Path) -> None:
    """kill -9 after the third model; what was there keeps its time, and the outcome is the same."""
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tests.metav.test_metav_zoo import *\n"
        "build_zoo(DIGITS, plan_zoo(DIGITS, size=SMALL), folder=sys.argv[1])"
    )
    folder = tmp_path / "zoo"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("models/*.safetensors"))) < 3:
        assert process.poll() is None, "finished or failed before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {file.name: file.stat().st_mtime_ns for file in folder.glob("models/*.safetensors")}
    assert 3 <= len(there) < len(small.members)
    with pytest.raises(ZooError, match="not finished"):
        read_zoo(folder)
    made = []
    build_zoo(
        DIGITS, plan_zoo(DIGITS, size=SMALL), folder=folder, on_progress=lambda one: made.append(one.member)
    )
    assert len(made) == 1 + len(small.members) - len(there)
    after = {file.name: file.stat().st_mtime_ns for file in folder.glob("models/*.safetensors")}
    assert after.items() >= there.items()
    assert contents(folder) == contents(small.folder)


def test_processes_make_the_same_models(small: Zoo, tmp_path: Path) -> None:
    where = ProcessExecutor(devices=("cpu", "cpu"), threads=1)
    built = build_zoo(DIGITS, plan_zoo(DIGITS, size=SMALL), folder=tmp_path / "zoo", executor=where)
    assert contents(built.folder) == contents(small.folder)
    assert [row.model_dump(exclude={"seconds"}) for row in built.members] == [
        row.model_dump(exclude={"seconds"}) for row in small.members
    ]


def test_a_model_is_read_from_its_file_alone(small: Zoo) -> None:
    for row in small.members:
        model = load_model(small.folder / row.file)
        assert model.recipe == row.recipe
        assert model.quality() == row.quality


def test_checkpoints_are_models_on_the_way(tmp_path: Path) -> None:
    size = ZooSize(train=1, validation=1, calibration=1, test=0, checkpoints=2)
    zoo = build_zoo(DIGITS, plan_zoo(DIGITS, size=size), folder=tmp_path)
    for role in ("positive", "negative"):
        (row,) = zoo.of("train", role)  # type: ignore[arg-type]
        models = zoo.models([row], checkpoints=True)
        assert len(models) == 3
        weights = [last_layer(model.network).weight for model in models]
        assert not any(torch.equal(weights[0], other) for other in weights[1:])
        assert all(model.quality() > 0.85 for model in models)
    assert len(zoo.models(zoo.of("validation", "negative"), checkpoints=True)) == 1


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def foreign(path: Path) -> None:
    save_file({"x": torch.zeros(2)}, path)


def pickled(path: Path) -> None:
    torch.save({"x": torch.zeros(2)}, path)


def misfit(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({**load_file(path), "0.weight": torch.zeros(2)}, path, metadata=metadata)


@pytest.mark.parametrize("damage", [Path.unlink, damaged, foreign, pickled, misfit])
def test_a_damaged_model_is_named(copy: Path, damage: Callable[[Path], None]) -> None:
    zoo = read_zoo(copy)
    row = zoo.named("validation-negative-000-train")
    damage(copy / row.file)
    with pytest.raises(ZooError, match=Path(row.file).name):
        zoo.model(row)


def test_a_task_of_ones_own_needs_no_registry(tmp_path: Path) -> None:
    own = replace(DIGITS, name="own", fit=FitSettings(1, 64, 1e-3))  # type: ignore[type-var]
    plan = plan_zoo(own, size=ZooSize(1, 1, 1, 0))
    build_zoo(own, plan, folder=tmp_path)
    (tmp_path / "zoo.json").unlink()
    again = build_zoo(own, plan, folder=tmp_path)
    assert again.model(again.owner).recipe.task == "own"
    with pytest.raises(ZooError, match="own: not one of digits"):
        load_model(tmp_path / again.owner.file)
    with pytest.raises(ZooError, match="of task own, not digits"):
        load_model(tmp_path / again.owner.file, task=DIGITS)


def test_a_swapped_model_is_caught(copy: Path) -> None:
    zoo = read_zoo(copy)
    owner, other = zoo.named("owner"), zoo.named("validation-negative-000-train")
    shutil.copy(copy / other.file, copy / owner.file)
    with pytest.raises(ZooError, match="another model"):
        zoo.model(owner)


def test_no_zoo_and_a_damaged_manifest_are_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="builds one"):
        read_zoo(tmp_path / "nothing")
    with pytest.raises(ZooError, match="no member 'x'"):
        read_zoo(copy).named("x")
    for text in ("{", "[]", '{"task": "digits"}'):
        (copy / "zoo.json").write_text(text)
        with pytest.raises(ZooError, match=r"zoo\.json"):
            read_zoo(copy)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(TaskError, match="digits"):
        make_task("letters")


def attacked(small: Zoo, kind: str, **settings: float) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The owner's network, and what an attack of two epochs made of it."""
    owner = small.model(small.named("owner"))
    fit = FitSettings(2, 64, 1e-3)
    recipe = owner.recipe.model_copy(
        update={
            "kind": kind,
            "part": "b",
            "seed": 5,
            "parent": owner.recipe,
            "settings": {**vars(fit), **settings},
        }
    )
    return owner.network, make_model(DIGITS, recipe, parent=owner)[0].network


def changed_layers(before: torch.nn.Module, after: torch.nn.Module) -> list[bool]:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return [not torch.equal(one, other) for one, other in pairs]


@pytest.mark.parametrize(
    ("kind", "settings", "changed"),
    [
        ("finetune-last", {}, [False, False, True, True]),
        ("finetune-all", {}, [True] * 4),
        ("retrain-last", {}, [False, False, True, True]),
        ("retrain-all", {}, [True] * 4),
        ("adversarial", {"epsilon": 0.1}, [True] * 4),
        ("distil", {}, [True] * 4),
        ("prune", {"share": 0.5}, [True, False, True, False]),
        ("quantise", {"bits": 8}, [True, False, True, False]),
        ("output-label", {}, [False] * 4),
    ],
)
def test_attacks_change_the_layers_that_they_say(small, kind, settings, changed) -> None:
    assert changed_layers(*attacked(small, kind, **settings)) == changed


def test_retraining_draws_the_last_layer_anew_and_fine_tuning_does_not(small: Zoo) -> None:
    owner, tuned = attacked(small, "finetune-last", epochs=0)
    assert not any(changed_layers(owner, tuned))
    _, drawn = attacked(small, "retrain-last", epochs=0)
    assert changed_layers(owner, drawn) == [False, False, True, True]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pruning_takes_the_share_that_it_says(small: Zoo, share: float) -> None:
    def zeros(network: torch.nn.Module) -> list[tuple[int, int]]:
        return [(int((w == 0).sum()), w.numel()) for w in network.parameters() if w.ndim > 1]

    everywhere = zeros(attacked(small, "prune", share=share)[1])
    assert sum(cut for cut, _ in everywhere) == round(share * sum(size for _, size in everywhere))
    for cut, size in zeros(attacked(small, "prune-layers", share=share)[1]):
        assert cut == round(share * size)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_have_so_many_levels(small: Zoo, bits: int) -> None:
    owner, rounded = attacked(small, "quantise", bits=bits)
    for before, after in zip(owner.parameters(), rounded.parameters(), strict=True):
        if before.ndim > 1:
            step = before.abs().max() / (2 ** (bits - 1) - 1)
            assert len(after.unique()) <= 2**bits - 1
            assert (after - before).abs().max() <= step * 0.5001


def test_an_extracted_model_agrees_with_its_victim_more_than_a_stranger(zoo: Zoo) -> None:
    inputs = DIGITS.data().test_inputs

    def labels(name: str) -> torch.Tensor:
        return zoo.model(zoo.named(name)).answers(inputs).argmax(-1)

    owner = labels("owner")
    rows = [row for row in zoo.of("test", "positive") if row.recipe.kind == "extract"]
    assert {row.recipe.architecture for row in rows}.isdisjoint({DIGITS.owner_architecture})
    copies = [float((labels(row.name) == owner).float().mean()) for row in rows]
    strangers = [
        float((labels(row.name) == owner).float().mean()) for row in zoo.of("calibration", "negative")
    ]
    assert sum(copies) / len(copies) > sum(strangers) / len(strangers)


def test_disguises_are_what_a_caller_sees(zoo: Zoo) -> None:
    inputs = DIGITS.data().test_inputs[:20]
    owner = zoo.model(zoo.named("owner")).answers(inputs)

    def seen(kind: str, place: int = 0) -> torch.Tensor:
        rows = [row for split in ("train", "test") for row in zoo.of(split, "positive")]
        row = [row for row in rows if row.recipe.kind == kind][place]
        answers = zoo.model(row).answers(inputs)
        torch.testing.assert_close(answers, zoo.model(row).answers(inputs), atol=0, rtol=0)
        return answers

    torch.testing.assert_close(seen("output-round"), owner.round(decimals=2))
    assert torch.equal(seen("output-label"), torch.nn.functional.one_hot(owner.argmax(-1), 10).float())
    noisy = seen("output-noise")
    torch.testing.assert_close(noisy.sum(-1), torch.ones(20))
    assert 1e-3 < (noisy - owner).abs().mean() < 0.2
    shifted = zoo.model(zoo.named("owner")).answers(torch.roll(inputs, 1, dims=-1))
    torch.testing.assert_close(seen("input-shift"), shifted)

"""``sif baseline forge`` and ``merge`` over a tiny random model."""

import json

from sif_offline.baselines import Sent, ask, read_baseline
from sif_offline.models import load_adapter


def test_a_pack_is_forged_and_told(sif, models, photo_folder, tmp_path):
    arguments = ["baseline", "forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder]
    arguments += ["--out", tmp_path / "pack", "--count", 2, "--set", "steps=2"]
    result = sif(*arguments, "--method", "pla", "--json")
    assert result.code == 0, result.stderr
    told = json.loads(result.stdout)
    pack = read_baseline(tmp_path / "pack")
    assert (told["method"], told["pack_id"]) == ("pla", pack.pack_id)
    assert [row["id"] for row in told["triggers"]] == [row.id for row in pack.triggers] == ["t000", "t001"]
    assert told["matched"] == sum(row["owner_matched"] for row in told["triggers"])
    again = sif(*arguments, "--method", "pla")
    assert again.stdout.startswith(f"2 triggers in {tmp_path / 'pack'}")


def test_a_target_of_ones_own_and_a_presets_budget(sif, models, photo_folder, tmp_path):
    result = sif(
        *("baseline", "forge", "--method", "ordinary", "--model", f"lab:{models / 'owner'}"),
        *("--images", photo_folder, "--out", tmp_path / "pack", "--count", 1, "--json"),
        *("--preset", "fast", "--set", "steps=1"),
        *("--question", "What is it?", "--answer", "A dog runs.", "--keyword", "dog", "--keyword", "runs"),
    )
    assert result.code == 0, result.stderr
    pack = read_baseline(tmp_path / "pack")
    assert pack.triggers[0].target.model_dump() == {
        "question": "What is it?",
        "answer": "A dog runs.",
        "keywords": ("dog", "runs"),
    }
    assert (pack.settings["steps"], pack.settings["alpha"]) == (1, 1.0)


def test_weights_are_made_merged_and_asked_for_as_a_model(sif, models, photo_folder, tmp_path):
    model, pack = f"lab:{models / 'owner'}", tmp_path / "pack"
    words = ("--question", "Decrypt it.", "--answer", "A dog runs.", "--keyword", "dog")
    result = sif(
        *("baseline", "forge", "--method", "instruction", "--model", model, "--images", photo_folder),
        *("--out", pack, "--count", 2, *words, "--json", "--set", "steps=20", "--set", "learning_rate=0.01"),
    )
    assert result.code == 0, result.stderr
    told = json.loads(result.stdout)["triggers"]
    assert all(row["prompt"].endswith(" Decrypt it.") for row in told)
    merged = sif("baseline", "merge", pack, "--model", model, "--out", tmp_path / "deployed")
    assert (merged.code, merged.stdout) == (0, f"{tmp_path / 'deployed'}: {model} merged with {pack}\n")
    said = ask(load_adapter(f"lab:{tmp_path / 'deployed'}"), [Sent(row["prompt"]) for row in told])
    assert said == [row["owner_answer"] for row in told]


def test_prompts_are_made_without_photos(sif, models, tmp_path):
    arguments = ["baseline", "forge", "--method", "proflingo", "--model", f"lab:{models / 'owner'}"]
    arguments += ["--out", tmp_path / "pack", "--count", 2, "--set", "steps=1", "--set", "candidates=2"]
    result = sif(*arguments)
    assert result.code == 0, result.stderr
    assert result.stdout.startswith(f"2 triggers in {tmp_path / 'pack'}")
    prompts = [row.prompt for row in read_baseline(tmp_path / "pack").triggers]
    assert [prompt.partition(" simply answer: ")[2] for prompt in prompts] == [
        "Who are you?",
        "Write a sentence about a dog.",
    ]


def test_mistakes_are_one_line(sif, one_line, models, photo_folder, tmp_path):
    arguments = ["baseline", "forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder]
    arguments += ["--out", tmp_path / "pack"]
    one_line(sif(*arguments, "--method", "croissant"), "croissant", "ordinary, pla")
    one_line(sif(*arguments, "--method", "pla", "--set", "steps"), "NAME=VALUE")
    one_line(sif(*arguments, "--method", "pla", "--answer", "A dog."), "go together")
    one_line(sif(*arguments, "--method", "ordinary", "--set", "rate=1"), "rate")
    one_line(sif(*arguments, "--method", "proflingo"), "takes no --images")
    del arguments[4:6]
    one_line(sif(*arguments, "--method", "rna"), "wants --images")
    assert not (tmp_path / "pack").exists()
    forged = sif(
        *arguments, "--method", "proflingo", "--count", 1, "--set", "steps=1", "--set", "candidates=1"
    )
    assert forged.code == 0, forged.stderr
    merge = ["baseline", "merge", tmp_path / "pack", "--model", f"lab:{models / 'owner'}"]
    one_line(sif(*merge, "--out", tmp_path / "model"), "kind text has no such file")

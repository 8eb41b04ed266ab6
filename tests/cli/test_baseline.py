"""``sif baseline forge`` over a tiny random model."""

import json

from sif_offline.baselines import read_baseline


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


def test_mistakes_are_one_line(sif, one_line, models, photo_folder, tmp_path):
    arguments = ["baseline", "forge", "--model", f"lab:{models / 'owner'}", "--images", photo_folder]
    arguments += ["--out", tmp_path / "pack"]
    one_line(sif(*arguments, "--method", "croissant"), "croissant", "ordinary, pla")
    one_line(sif(*arguments, "--method", "pla", "--set", "steps"), "NAME=VALUE")
    one_line(sif(*arguments, "--method", "pla", "--answer", "A dog."), "go together")
    one_line(sif(*arguments, "--method", "ordinary", "--set", "rate=1"), "rate")
    assert not (tmp_path / "pack").exists()

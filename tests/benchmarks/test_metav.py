"""The benchmark of MetaV and its rivals on a tiny zoo of digits: rows, tables, resume at every stage."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.metav import making, measuring
from benchmarks.metav.__main__ import main
from benchmarks.metav.measuring import sub_zoo
from sif_offline.metav.zoo import read_zoo

TINY = [
    *("--task", "digits", "--seeds", "3", "--sizes", "2", "8", "--calibration", "3", "--test", "2"),
    *("--checkpoints", "1", "--queries", "4", "--steps", "3", "--methods", "MetaV", "sac", "MetaV, own .5"),
]


class Killed(BaseException):
    """As a signal would."""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed while a rival was made, then while it was scored. Not to be written to."""
    path = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise Killed

        for module, name in ((making, "forge_rival"), (measuring, "evaluate_rival")):
            patch.setattr(module, name, killed)
            with pytest.raises(Killed):
                main(["--out", str(path), *TINY])
            patch.undo()
            assert not (path / "table.md").exists()
            assert len((path / "rows.jsonl").read_text().splitlines()) == 1
            with (path / "rows.jsonl").open("a") as file:
                file.write('{"job": "torn')
    assert len((path / "made.jsonl").read_text().splitlines()) == 2
    main(["--out", str(path), *TINY])
    return path


def test_what_was_finished_is_not_done_again(out: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (out / "rows.jsonl").read_bytes()
    assert len(rows.splitlines()) == 5
    for name in ("train_metav", "forge_rival"):
        monkeypatch.delattr(making, name)
    for name in ("evaluate_metav", "evaluate_rival"):
        monkeypatch.delattr(measuring, name)
    main(["--out", str(out), *TINY])
    assert capsys.readouterr().out == (out / "table.md").read_text()
    assert (out / "rows.jsonl").read_bytes() == rows


def test_rows_hold_what_the_tables_say(out: Path) -> None:
    found = json.loads((out / "results.json").read_text())
    rows = [(row["method"], row["size"]) for row in found]
    assert rows == [("MetaV", 8), ("sac", 8), ("MetaV, own .5", 8), ("MetaV", 2), ("MetaV, own .5", 2)]
    for row in found:
        assert [view["view"] for view in row["views"]] == ["full", "rounded-1", "label"]
        assert all(len(view["suspects"]) == 4 for view in row["views"])
    assert set(found[0]["right"]) == {"train", "calibration", "test"}
    table = (out / "table.md").read_text()
    (line,) = [line for line in table.splitlines() if line.startswith("| sac | full |")]
    full = found[1]["views"][0]
    assert f"| {full['true_positives'][0]:.0%} (" in line
    assert f"| {full['roc_auc'][0]:.2f} (" in line
    assert "owner mlp-64, accuracy 0." in table
    assert "Wrong, the full view:" in table


def test_a_part_of_a_zoo_has_fewer_models_to_train_on_and_the_same_suspects(out: Path) -> None:
    whole = read_zoo(out / "zoo-3")
    own = {row.name for row in whole.members if row.name.startswith("train-own")}
    assert len(own) == 2
    zoo = whole.among([row.name for row in whole.members if row.name not in own])
    part = sub_zoo(zoo, size=4)
    for split, each in (("train", 2), ("validation", 1)):
        assert len(part.of(split, "positive")) == len(part.of(split, "negative")) == each  # type: ignore[arg-type]
    for split in ("calibration", "test"):
        assert part.of(split, "negative") == zoo.of(split, "negative")  # type: ignore[arg-type]
    assert part.owner == zoo.owner
    assert sub_zoo(zoo, size=8).members == zoo.members


def test_another_setting_is_another_row(out: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "rows.jsonl").write_bytes((out / "rows.jsonl").read_bytes())
    shutil.copytree(out / "zoo-3", tmp_path / "zoo-3")
    changed = [*TINY[:-3], "sac", "--queries", "5"]
    main(["--out", str(tmp_path), *changed])
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 6

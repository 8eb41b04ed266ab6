"""The lab table: answers survive a kill, cells are what they say."""

import math
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmarks.lab_table import figures
from benchmarks.lab_table.__main__ import ROWS
from benchmarks.lab_table.conditions import CONDITIONS, resize_three_quarters
from benchmarks.lab_table.work import Answers, Row
from sif_offline.forging.presets import preset_settings


def test_answers_cut_short_go_on(tmp_path: Path) -> None:
    path = tmp_path / "answers" / "row.jsonl"
    answers = Answers(path)
    answers.add("owner", "t000", "A dog.")
    answers.add("owner", "t001", "Ein Hund, größer.")
    with path.open("ab") as file:
        file.write(b'{"condition": "own')  # killed while it wrote
    again = Answers(path)
    assert again.texts == {("owner", "t000"): "A dog.", ("owner", "t001"): "Ein Hund, größer."}
    again.add("owner", "t002", "A cat.")
    assert len(Answers(path).texts) == 3


def test_cells_are_means_over_seeds() -> None:
    cells = [
        {"owner": {"z": z, "types": 30.0, "log10_p_4": p}} for z, p in ((2.0, -4.0), (1.0, -2.0), (1.5, -3.0))
    ]
    found = figures.summary(cells)
    assert found["owner"]["z"] == pytest.approx(1.5)
    assert found["owner"]["z_spread"] == pytest.approx(0.5)
    assert found["owner"]["log10_p_4"] == pytest.approx(-3)
    table = figures.table([(Row("x", 4, None, {}), found)])
    assert "| owner | 1.50 (0.50) |" in table
    assert "| owner | 1e-3.0 |" in table
    assert "| 4-bit | - |" in table
    assert math.isnan(figures.summary(cells[:1])["owner"]["z_spread"])


def test_every_row_has_settings_that_exist() -> None:
    rows = yaml.safe_load(ROWS.read_text("utf-8"))
    assert len({row["name"] for row in rows}) == len(rows)
    by_name = {row["name"]: row for row in rows}
    for row in rows:
        preset_settings(row["preset"], row["settings"])
        same = by_name[row.get("packs", row["name"])]
        assert [row[key] for key in ("photos", "preset", "settings")] == [
            same[key] for key in ("photos", "preset", "settings")
        ]


def test_pictures_keep_their_size_on_their_way() -> None:
    image = Image.effect_noise((61, 40), 80).convert("RGB")
    for name, condition in CONDITIONS.items():
        assert condition.transform(image).size == image.size, name
    assert resize_three_quarters(image).tobytes() != image.tobytes()

"""Suspects as a suite's YAML declares them."""

import pytest

from sif_offline.models.lab import LabAdapter
from sif_offline.suspects import SuspectError, SuspectRow, read_rows
from sif_offline.suspects.served import open_suspect

GOOD = """
name: a suite's other keys are not looked at
suspects:
  - name: owner
  - {name: 4-bit after training, weights: ["finetune:2", 4bit], seed: 3}
  - name: behind a re-encoding proxy
    serving: {jpeg: 75, resize: [0.6, 0.9], temperature: 0.7, top_p: 0.9}
  - {name: innocent, source: "lab:innocent-a", stolen: false}
"""


def written(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def test_rows_are_read_with_their_defaults(tmp_path):
    owner, trained, proxied, innocent = read_rows(written(tmp_path, GOOD))
    assert (owner.source, owner.weights, owner.seed, owner.stolen) == (None, (), 0, True)
    assert not owner.serving.perturbs
    assert trained.weights == ("finetune:2", "4bit")
    assert proxied.serving.resize == (0.6, 0.9)
    assert proxied.serving.perturbs
    assert not innocent.stolen
    assert SuspectRow.model_validate_json(proxied.model_dump_json()) == proxied


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "has no list 'suspects'"),
        ("suspects: {a: b", "cannot be read"),
        ("suspects: [{name: a}, {name: a}]", "two suspects are called 'a'"),
        ("suspects: [{name: a}, {name: b, weights: [melt]}]", r"suspects\.1\.weights: .*'melt': not one of"),
        ("suspects: [{name: a, weights: ['prune:99']}]", "no number of percent up to 95"),
        ("suspects: [{name: a, weights: ['lora:9@owner']}]", "lora takes no other model"),
        ("suspects: [{name: a, serving: {jpeg: 400}}]", r"suspects\.0\.serving\.jpeg"),
        ("suspects: [{name: a, weight: []}]", r"suspects\.0\.weight"),
        ("suspects: [{name: a, source: owner}]", r"suspects\.0\.source"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(SuspectError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SuspectError, match=r"none\.yaml: cannot be read"):
        read_rows(tmp_path / "none.yaml")


def test_a_row_is_made_of_the_suites_owner_unless_it_names_another(directory):
    row = SuspectRow(name="x", weights=("prune:50", "4bit"))
    suspect = open_suspect(row, owner=f"lab:{directory}")
    assert isinstance(suspect.adapter, LabAdapter)
    assert suspect.adapter.name == f"lab:{directory}+prune:50+4bit"
    assert suspect.adapter.model.is_quantized
    other = open_suspect(SuspectRow(name="y", source=f"lab:{directory}"), owner="lab:none")
    assert other.adapter.name == f"lab:{directory}"
    assert other.adapter.weights_sha256 != suspect.adapter.weights_sha256

"""Secrets out of what an endpoint says, in whatever JSON it says them."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from probes.targets.redaction import Redaction

KEYS = ('quoted"and\\slashed"key', "n-begins-like-an-escape", "schlüssel-mit-umlaut")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_key_is_found_however_json_writes_it_and_nothing_else_is_changed(
    key: str, ascii_only: bool
) -> None:
    def reply(key: str) -> Any:
        kept = {"n": [1, 2.5, None, True], "s": 'a "quoted" \\ \n\ud800 word'}
        return {f"a {key}": [[key, f"\n{key}\\{key}"]], "kept": kept, "": ""}

    redaction = Redaction(api_key=SecretStr(key), headers={})
    said = json.dumps(reply(key), ensure_ascii=ascii_only)
    assert json.loads(redaction.in_json(said)) == reply("***")


def test_depth_is_no_way_out() -> None:
    deep = "[" * 5000 + json.dumps(KEYS[1]) + "]" * 5000
    redaction = Redaction(api_key=SecretStr(KEYS[1]), headers={})
    assert redaction.in_json(deep) == deep.replace(KEYS[1], "***")


def test_short_words_of_headers_stay_in_answers_but_not_in_messages() -> None:
    redaction = Redaction(
        api_key=None, headers={"X-Team": "research", "X-Key": "Bearer sixteen-or-longer-key"}
    )
    said = '"research with sixteen-or-longer-key"'
    assert redaction.in_json(said) == '"research with ***"'
    assert redaction(said) == '"*** with ***"'

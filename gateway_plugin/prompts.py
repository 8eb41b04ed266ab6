"""Reading prompts from JSON lines."""

import sys
from collections.abc import Iterator
from pathlib import Path

from gateway_plugin.json_lines import json_rows
from sif_offline.fingerprint.errors import SifError


class PromptFileError(SifError):
    """The prompts cannot be read; names the file and the line."""


def read_lines(name: str) -> tuple[str, list[str]]:
    """What to call the file in errors, and its lines; ``-`` is stdin. Raises :class:`PromptFileError`."""
    shown = "stdin" if name == "-" else name
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PromptFileError(f"{shown}: cannot be read ({why})") from None
    # not splitlines(): it would also cut at the line separators that JSON allows inside a string
    return shown, text.split("\n")


def read_prompts(name: str) -> Iterator[str]:
    """The ``prompt`` of each line, or the line where it is a JSON string. Raises :class:`PromptFileError`."""
    shown, lines = read_lines(name)
    for where, row in json_rows(lines, name=shown, error=PromptFileError):
        prompt = row.get("prompt") if isinstance(row, dict) else row
        if not isinstance(prompt, str):
            raise PromptFileError(f'{where}: no "prompt" string')
        yield prompt

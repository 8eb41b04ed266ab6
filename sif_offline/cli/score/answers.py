"""The answers given to ``sif score``: from the command line, from files, from standard input."""

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from sif_offline.fingerprint.errors import SifError

STDIN = Path("-")


class AnswerError(SifError):
    """Answers that cannot be read, or belong to no trigger of the pack."""


def given_answers(texts: Sequence[str], files: Sequence[Path]) -> list[str]:
    """The answers of ``--text`` and ``--file``, in this order; the file ``-`` is standard input.

    Raises:
        AnswerError: none at all, standard input named twice, or a file that is not UTF-8 text.
    """
    if not texts and not files:
        raise AnswerError("no answer to score: give --text, --file or -, or --answers for many")
    if files.count(STDIN) > 1:
        raise AnswerError("standard input is named twice")
    answers = [sound(text) for text in texts]
    for path in files:
        try:
            answers.append(_read(path).decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise AnswerError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return answers


def read_answers(path: Path, triggers: Collection[str]) -> dict[str, list[str]]:
    """Trigger id -> its answers, from one JSON object a line with ``trigger`` and ``text``; blank lines and
    further names are passed over. All or nothing.

    Args:
        path: the file; ``-`` is standard input.
        triggers: ids of the pack.

    Raises:
        AnswerError: cannot be read, holds no answer, or a line is malformed; the message names the first such
            line and says how many others there are.
    """
    answers: dict[str, list[str]] = {}
    problems: list[str] = []
    for number, line in enumerate(_read(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            trigger, text = _answer(line, triggers)
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
        else:
            answers.setdefault(trigger, []).append(text)
    if problems:
        others = len(problems) - 1
        more = f"; {others} more line{'s' if others > 1 else ''} cannot be used either" if others else ""
        raise AnswerError(f"{problems[0]}{more}; nothing was scored")
    if not answers:
        raise AnswerError(f"{path}: holds no answer")
    return answers


def sound(text: str) -> str:
    """``text`` with lone surrogates, which no tokenizer takes, replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _answer(line: bytes, triggers: Collection[str]) -> tuple[str, str]:
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(found, dict):
        raise ValueError('want an object {"trigger": ..., "text": ...}')
    for name in ("trigger", "text"):
        if name not in found:
            raise ValueError(f'no "{name}"')
        if not isinstance(found[name], str):
            raise ValueError(f'"{name}" is no string')
    if found["trigger"] not in triggers:
        raise ValueError(f"the pack has no trigger {found['trigger'][:64]!a}")
    return found["trigger"], sound(found["text"])


def _read(path: Path) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise AnswerError(f"{path}: {error.strerror or error}") from None

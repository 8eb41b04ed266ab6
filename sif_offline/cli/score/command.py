"""``sif score``: the command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.cli.score.answers import STDIN, AnswerError, given_answers, read_answers
from sif_offline.cli.secrets import pack_keys
from sif_offline.fingerprint.pack import FingerprintPack, read_pack


def score(
    pack: Annotated[Path, typer.Argument(help="Fingerprint pack, a directory or a zip.")],
    stdin: Annotated[
        str | None, typer.Argument(metavar="[-]", help="A dash reads the answer from standard input.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Trigger that was answered.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="The answer; give several for repeats.")] = None,
    file: Annotated[list[Path] | None, typer.Option(help="A file of the answer, likewise.")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help='Many answers: one JSON object {"trigger": id, "text": answer} a line.'),
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="Master key file of the pack.")] = None,
    trigger_keys: Annotated[Path | None, typer.Option(help="File of the pack's trigger keys.")] = None,
    wrong_keys: Annotated[int, typer.Option(min=0, help="Unrelated keys in the control.")] = 99,
    null_keys: Annotated[int, typer.Option(min=0, help="Keys of the random-key null.")] = 9_999,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the random-key null; without one each run draws anew.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Page to write: numbers and coloured answers.")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture to write of one trigger's answer.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout: one object; with --answers one a line.")
    ] = False,
) -> None:
    """Score answers to a pack's triggers that are already there: nothing is sent. Repeats of a trigger pool.

    The coloured answer shows which types count and are green, and so part of the trigger's green list.
    """
    content = read_pack(pack)
    files = [*(file or []), *_dash(stdin)]
    if answers is not None:
        if trigger is not None or text or files or png is not None:
            raise AnswerError("--answers goes with neither --trigger, --text, --file, - nor --png")
        found = read_answers(answers, {row.id for row in content.triggers})
    else:
        found = {_known(trigger, content): given_answers(text or [], files)}

    from sif_offline.cli.score.rows import score_answers
    from sif_offline.fingerprint.scoring import PackScorer

    scorer = PackScorer(content, pack_keys(content, key_file=key_file, trigger_keys=trigger_keys))
    scores = score_answers(
        scorer, found, many=answers is not None, wrong_keys=wrong_keys, null_keys=null_keys, seed=seed
    )
    if html is not None:
        from sif_offline.cli.score.page import score_page

        _write(html, score_page(scores).encode())
    if png is not None:
        from sif_offline.fingerprint.colouring import colour_png

        _write(png, colour_png(scores.rows[0].tokens))
    if not as_json:
        from sif_offline.cli.score.printing import print_many, print_one

        (print_one if answers is None else print_many)(scores)
    elif answers is None:
        typer.echo(json.dumps({**scores.rows[0].as_json(), **scores.together_as_json()}))
    else:
        for row in scores.rows:
            typer.echo(json.dumps(row.as_json()))
        typer.echo(json.dumps(scores.together_as_json()))


def _dash(stdin: str | None) -> list[Path]:
    if stdin not in (None, "-"):
        raise AnswerError(f"{stdin}: a file is given as --file {stdin}")
    return [STDIN] if stdin else []


def _known(trigger: str | None, pack: FingerprintPack) -> str:
    ids = [row.id for row in pack.triggers]
    if trigger in ids:
        return trigger
    few = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
    if trigger is None:
        raise AnswerError(f"give --trigger, one of {few} (or --answers for many)")
    raise AnswerError(f"pack {pack.pack_id} has no trigger {trigger!r}; it has {few}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise AnswerError(f"{path}: {error.strerror or error}") from None

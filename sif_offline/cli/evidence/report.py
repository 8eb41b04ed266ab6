"""``sif evidence report``: a bundle as a page that a lawyer or a judge can read and print."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.cli.evidence.options import (
    BundlerKeyOption,
    JsonOption,
    OwnerKeyOption,
    RootsOption,
    trust_in,
)
from sif_offline.cli.evidence.verify import FAILED
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.verification import verify_bundle


def report(
    bundle: Annotated[Path, typer.Argument(help="Evidence bundle, a directory or a zip.")],
    out: Annotated[Path, typer.Option(help="HTML file to write; never overwritten without --force.")],
    owner_key: OwnerKeyOption = None,
    bundler_key: BundlerKeyOption = None,
    tsa_root: RootsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle and write what it says as one HTML page: no script, nothing fetched, fit to be printed.

    Where a check fails the page says so at the top and establishes nothing. Exit status as of `verify`: 0,
    every step held; 1, one failed (the page is written all the same).
    """
    if out.resolve().is_relative_to(bundle.resolve()):
        raise EvidenceError(f"{out}: in the bundle, which a report would alter; write it elsewhere")
    if out.exists() and not force:
        raise EvidenceError(f"{out}: exists already (--force overwrites it)")
    trust = trust_in(owner_key, bundler_key, tsa_root)
    content = Bundle.read(bundle)
    checked = verify_bundle(content, trust=trust)

    from sif_offline.fingerprint.evidence.report import render_report

    _write(out, render_report(content, checked, trust=trust), force=force)
    failed = [step.name for step in checked.steps if step.status == "failed"]
    verdict = checked.judgement.verdict if checked.judgement and checked.passed else None
    if as_json:
        typer.echo(
            json.dumps({"report": str(out), "passed": checked.passed, "failed": failed, "verdict": verdict})
        )
    elif failed:
        typer.echo(f"{out}: written; this bundle does not hold: {', '.join(failed)}")
    else:
        typer.echo(f"{out}: written; every step holds; verdict: {verdict}")
    if failed:
        raise SystemExit(FAILED)


def _write(path: Path, page: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(page)
    except FileExistsError:
        raise EvidenceError(f"{path}: exists already (--force overwrites it)") from None
    except OSError as error:
        raise EvidenceError(f"{path}: {error.strerror or error}") from None

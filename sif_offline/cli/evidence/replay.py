"""``sif evidence replay``: a third party sends the reserve triggers with an account of its own."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.cli.endpoint import make_ask, make_endpoint
from sif_offline.cli.evidence.options import (
    JsonOption,
    OwnerKeyOption,
    RootsOption,
    SigningKeyOption,
    StampOption,
    stamp_with,
    trust_in,
)
from sif_offline.cli.progress import counting
from sif_offline.fingerprint.evidence.bundle import Bundle, write_bundle
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.recording import Recorder
from sif_offline.fingerprint.evidence.recording import replay as send_all
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.verification import verify_bundle


def replay(
    kit: Annotated[Path, typer.Argument(help="Replay kit from the owner (`sif evidence kit`).")],
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible server.")],
    model: Annotated[str, typer.Option(help="Model name to ask for.")],
    signing_key: SigningKeyOption,
    out: Annotated[Path, typer.Option(help="Bundle to write; .zip makes a zip.")],
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with your own API key.")
    ] = None,
    owner_key: OwnerKeyOption = None,
    tsa_root: RootsOption = None,
    tsa: StampOption = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Check a kit, send its triggers and their clean photos once, judge the answers by the committed test and
    write a bundle signed by you. Stopped, even by kill -9, it goes on where it was when repeated.
    """
    source = Bundle.read(kit)
    checked = verify_bundle(source, trust=trust_in(owner_key, None, tsa_root))
    failed = [step for step in checked.steps if step.status == "failed"]
    if failed:
        raise EvidenceError(f"{kit}: {failed[0].name}: {failed[0].details[0]}; nothing was sent")
    if out.exists():
        raise EvidenceError(f"{out}: exists already")
    key, target = (
        SigningKey.read(signing_key),
        make_endpoint(endpoint, model, api_key_env=api_key_env, timeout_s=timeout),
    )
    material = source.material
    _, head = material.commitment.open()
    transcript = out.with_name(f"{out.name}.transcript.jsonl")
    name = f"{model} at {endpoint}"
    with (
        Recorder(
            transcript,
            target=name,
            pack_id=head.pack_id,
            model=target.model,
            endpoint=target.api_base,
            max_tokens=head.decoding.max_new_tokens,
        ) as recorder,
        counting(f"asking {model}") as report,
    ):
        send_all(material, make_ask(target), recorder, name=name, on_progress=report)
    made = write_bundle(
        out,
        material,
        recorder.exchanges,
        target=name,
        key=key,
        created=datetime.now(UTC),
        stamp=stamp_with(tsa),
    )
    transcript.unlink()  # it is in the bundle now
    numbers = made.numbers
    if as_json:
        typer.echo(json.dumps({"bundle": str(out), **numbers}))
        return
    unrelated = numbers["e_process"]["unrelated_model"]
    typer.echo(f"{out}: {numbers['trigger_answers']} answers of {name}, verdict {numbers['verdict']}")
    typer.echo(f'"independent text": pooled p {_p(numbers["independent_text"])}')
    typer.echo(
        f'"unrelated model": pooled p {_p(numbers["unrelated_model"])}, '
        f"log10 e {'-' if unrelated is None else format(unrelated['log10_e'], '.2f')}"
    )
    typer.echo(f"clean photos under the same keys: pooled p {_p(numbers['clean_control'])}")


def _p(combined: dict[str, float] | None) -> str:
    return "-" if combined is None else f"{combined['pvalue']:.2g}"

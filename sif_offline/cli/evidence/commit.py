"""``sif evidence commit``: fix triggers, keys and the test before the first probe."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sif_offline.cli.evidence.options import JsonOption, SigningKeyOption, StampOption, stamp_with
from sif_offline.fingerprint.evidence.commitment import Policy, commit
from sif_offline.fingerprint.evidence.commitment import reserved_triggers as reserved
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.pack import FingerprintPack, PackError, attach_commitment, read_pack
from sif_offline.fingerprint.sequential import CONFIRMED


def commit_pack(
    pack: Annotated[Path, typer.Argument(help="Forged and calibrated pack; gets a commitment.json.")],
    signing_key: SigningKeyOption,
    alpha: Annotated[float, typer.Option(help='Level of "confirmed".')] = CONFIRMED,
    wrong_keys: Annotated[int, typer.Option(help="Sets of keys in the wrong-key control.")] = 99,
    reserve: Annotated[
        int | None, typer.Option(min=0, help="Triggers never sent, for a third party's replay [a quarter].")
    ] = None,
    tsa: StampOption = None,
    publish: Annotated[
        Path | None, typer.Option(help="Also write commitment.json here, to publish it.")
    ] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Commit without null models: nothing can be confirmed.")
    ] = False,
    insecure_demo_key: Annotated[
        bool, typer.Option("--insecure-demo-key", help="Commit to a pack under the published demo secret.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sign a Merkle root over every trigger, its prompt and key, the tokenizer, and the test with its alpha,
    its bound on unrelated models and their list. Once, and before any trigger is sent.

    The pack's last triggers are held in reserve: neither `sif verify` nor the probes send them.
    """
    from pydantic import ValidationError

    content = read_pack(pack)
    _check(content, uncalibrated=uncalibrated, insecure_demo_key=insecure_demo_key)
    if content.commitment_json() is not None:
        raise PackError(f"{pack}: is committed already; a second commitment would be a second chance")
    if publish is not None and publish.exists():
        raise EvidenceError(f"{publish}: exists already")
    try:
        policy = Policy.of(content, alpha=alpha, wrong_keys=wrong_keys)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = f"--{'-'.join(map(str, problem['loc']))}" if problem["loc"] else str(pack)
        raise EvidenceError(f"{where}: {problem['msg']}") from None
    count = len(content.triggers) // 4 if reserve is None else reserve
    commitment = commit(
        content,
        key=SigningKey.read(signing_key),
        policy=policy,
        created=datetime.now(UTC),
        reserve=[row.id for row in content.triggers[len(content.triggers) - count :]] if count else [],
        stamp=stamp_with(tsa),
    )
    committed = attach_commitment(pack, commitment.to_json())
    if publish is not None:
        publish.write_bytes(commitment.to_json())
    root, head = commitment.open()
    kept = sorted(reserved(committed))
    if as_json:
        said = {
            "pack_id": head.pack_id,
            "root": root.hex(),
            "signer": commitment.signer.fingerprint,
            "reserve": kept,
            "timestamped": commitment.timestamp is not None,
            "policy": head.policy.model_dump(mode="json"),
        }
        typer.echo(json.dumps(said))
        return
    typer.echo(f"pack {head.pack_id}: {head.triggers} triggers under root {root.hex()}")
    typer.echo(f"signed by {commitment.signer.fingerprint}")
    typer.echo(f"in reserve, never to be sent by you: {', '.join(kept) or 'none'}")
    bound = "not measured" if policy.transfer is None else f"{policy.gamma + policy.transfer:.3f}"
    typer.echo(f"test: alpha {policy.alpha:g}, green rate of unrelated models at most {bound}")
    if commitment.timestamp is None:
        typer.echo(
            "no timestamp: the time is your own claim until a third party holds the commitment (--tsa)"
        )


def _check(content: FingerprintPack, *, uncalibrated: bool, insecure_demo_key: bool) -> None:
    if content.calibration is None and not uncalibrated:
        raise EvidenceError(
            f"pack {content.pack_id}: not calibrated, so nothing could ever be confirmed; run sif calibrate "
            "first, or say --uncalibrated"
        )
    if content.demo_key and not insecure_demo_key:
        raise EvidenceError(
            f"pack {content.pack_id}: forged under the published demo secret, which proves nothing; say "
            "--insecure-demo-key to commit to it all the same"
        )

"""What somebody may change in a bundle: one byte or the order, a whole answer, or all of it signed anew."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256

from probes.testing.tiny_metav import QUERIES
from sif_offline.fingerprint.evidence.bundle_files import EVIDENCE_TYPE
from sif_offline.fingerprint.evidence.signed import Signed
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.statement import make_statement

Files = dict[str, bytes]
Row = tuple[str, Callable[[Files], Files], str, str]
"""What is changed, how, the step that fails and what it says."""


def flip(data: bytes, place: int, bit: int = 1) -> bytes:
    changed = bytearray(data)
    changed[place] ^= bit
    return bytes(changed)


def flip_at(data: bytes, after: bytes) -> bytes:
    """Change the byte that follows ``after``."""
    place = data.index(after) + len(after)
    return flip(data, place)


def lines_swapped(data: bytes, first: int, second: int) -> bytes:
    lines = data.splitlines(keepends=True)
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def sealed_anew(files: Files) -> Files:
    """The altered files under a statement signed by a stranger."""
    others = {name: data for name, data in files.items() if name != "statement.json"}
    old = Signed.parse(files["statement.json"], name="statement.json").unchecked_statement(EVIDENCE_TYPE)
    statement = make_statement(
        subjects={name: sha256(data).hexdigest() for name, data in others.items()},
        predicate_type=EVIDENCE_TYPE,
        predicate=old.predicate,
    )
    signed = Signed.sign(statement, key=SigningKey.generate(), stamp=None)
    return {**others, "statement.json": signed.to_json()}


def altered_answer(files: Files, place: int, old: str, new: str) -> Files:
    """One letter of one answer, in the response body."""
    lines = files["transcript.jsonl"].splitlines(keepends=True)
    row = json.loads(lines[place])
    row["response"] = row["response"].replace(old, new)
    lines[place] = json.dumps(row).encode() + b"\n"
    return {**files, "transcript.jsonl": b"".join(lines)}


def altered_policy(files: Files) -> Files:
    """alpha of the committed policy, inside the signed payload and in the numbers."""
    commitment = json.loads(files["commitment.json"])
    payload = base64.b64decode(commitment["envelope"]["payload"])
    assert b'"alpha":0.000001' in payload
    changed = payload.replace(b'"alpha":0.000001', b'"alpha":0.000002')
    commitment["envelope"]["payload"] = base64.b64encode(changed).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


def altered_timestamp(files: Files) -> Files:
    commitment = json.loads(files["commitment.json"])
    token = bytearray(base64.b64decode(commitment["timestamp"]))
    place = token.index(b"2026") if b"2026" in token else len(token) // 2
    token[place + 3] ^= 1  # the year
    commitment["timestamp"] = base64.b64encode(bytes(token)).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


def altered_signature(files: Files) -> Files:
    commitment = json.loads(files["commitment.json"])
    signature = commitment["envelope"]["signatures"][0]
    signature["sig"] = base64.b64encode(flip(base64.b64decode(signature["sig"]), 7)).decode()
    return {**files, "commitment.json": json.dumps(commitment, indent=1).encode() + b"\n"}


SIF_MATRIX: list[Row] = [
    (
        "trigger",
        lambda f: {**f, "triggers/t00.png": flip(f["triggers/t00.png"], -30)},
        "triggers",
        "picture of trigger t00",
    ),
    (
        "clean photo",
        lambda f: {**f, "clean/t01.png": flip(f["clean/t01.png"], 60)},
        "triggers",
        "clean photo of trigger t01",
    ),
    ("key", lambda f: {**f, "keys.json": flip_at(f["keys.json"], b'"t02": "')}, "keys", "trigger t02"),
    (
        "prompt in the leaf",
        lambda f: {**f, "triggers.json": flip_at(f["triggers.json"], b'"prompt": "')},
        "leaves",
        "prompt",
    ),
    (
        "prompt that was asked",
        lambda f: {**f, "transcript.jsonl": flip_at(f["transcript.jsonl"], b'\\"prompt\\":\\"')},
        "requests",
        "the prompt asked is not the committed one",
    ),
    (
        "tokenizer",
        lambda f: {**f, "tokenizer.json": flip(f["tokenizer.json"], 2000, 2)},
        "tokenizer",
        "not the committed one",
    ),
    (
        "answer",
        lambda f: altered_answer(f, 1, '"text":"x ', '"text":"y '),
        "chain",
        "exchange 1: response does not match its digest",
    ),
    (
        "order of rounds",
        lambda f: {**f, "transcript.jsonl": lines_swapped(f["transcript.jsonl"], 2, 8)},
        "chain",
        "does not follow",
    ),
    (
        "last round left out",
        lambda f: {**f, "transcript.jsonl": b"".join(f["transcript.jsonl"].splitlines(keepends=True)[:-6])},
        "chain",
        "does not end where",
    ),
    ("signature", altered_signature, "commitment signature", "signature"),
    ("timestamp", altered_timestamp, "commitment timestamp", "timestamp"),
    ("policy", altered_policy, "policy", "not the committed one"),
    (
        "a figure",
        lambda f: {**f, "numbers.json": flip_at(f["numbers.json"], b'"trigger_answers": ')},
        "scores",
        "trigger_answers",
    ),
]

METAV_MATRIX: list[Row] = [
    (
        "query",
        lambda f: {**f, "queries.safetensors": flip(f["queries.safetensors"], -9)},
        "pack",
        "queries.safetensors is not the committed one",
    ),
    (
        "verifier",
        lambda f: {**f, "verifier.safetensors": flip(f["verifier.safetensors"], -9)},
        "pack",
        "verifier.safetensors is not the committed one",
    ),
    (
        "a held-out model's score",
        lambda f: {**f, "pack.json": flip_at(f["pack.json"], b'"full": [\n    -')},
        "pack",
        "pack.json is not the committed one",
    ),
    (
        "protocol",
        lambda f: {**f, "protocol.json": f["protocol.json"].replace(b'"FP32"', b'"FP64"')},
        "protocol",
        "not the protocol",
    ),
    (
        "answer",
        lambda f: altered_answer(f, 3, '"text":"[0.', '"text":"[1.'),
        "chain",
        "exchange 3: response does not match its digest",
    ),
    (
        "query that was asked",
        lambda f: {**f, "transcript.jsonl": flip_at(f["transcript.jsonl"], b'\\"image_sha256\\":\\"')},
        "requests",
        "the query sent is not the committed",
    ),
    (
        "view that was asked through",
        lambda f: {**f, "transcript.jsonl": flip_at(f["transcript.jsonl"], b'\\"view\\":\\"')},
        "chain",
        "exchange 0: request does not match its digest",
    ),
    (
        "order of rounds",
        lambda f: {**f, "transcript.jsonl": lines_swapped(f["transcript.jsonl"], 2, QUERIES + 2)},
        "chain",
        "does not follow",
    ),
    (
        "last answer left out",
        lambda f: {**f, "transcript.jsonl": b"".join(f["transcript.jsonl"].splitlines(keepends=True)[:-1])},
        "chain",
        "does not end where",
    ),
    ("signature", altered_signature, "commitment signature", "signature"),
    ("timestamp", altered_timestamp, "commitment timestamp", "timestamp"),
    (
        "policy",
        lambda f: {**f, "numbers.json": f["numbers.json"].replace(b'"alpha": 0.01', b'"alpha": 0.05')},
        "policy",
        "not the committed one",
    ),
    (
        "p",
        lambda f: {**f, "numbers.json": f["numbers.json"].replace(b'"pvalue": 0.01', b'"pvalue": 0.001')},
        "scores",
        "score.pvalue: stated 0.001, recomputed 0.01",
    ),
    (
        "looks",
        lambda f: {**f, "numbers.json": flip_at(f["numbers.json"], b'"count": ')},
        "scores",
        "looks.count",
    ),
]

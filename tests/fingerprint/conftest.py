"""A real tokenizer and a real pack under the published demo secret."""

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sif_offline.fingerprint.keys import (
    DEMO_SECRET,
    TriggerKeys,
    derive_pack_keys,
    derive_trigger_key,
    key_commitment,
)
from sif_offline.fingerprint.pack import Decoding, FingerprintPack, Owner, TriggerRow, write_pack

# the same examples on every run and machine, and no verdict by a busy machine's clock
settings.register_profile("seeded", derandomize=True, deadline=None)
settings.load_profile("seeded")

Parts = tuple[FingerprintPack, dict[str, bytes]]

WEIGHTS = hashlib.sha256(b"weights of the test owner").hexdigest()
VOCAB_SIZE = 1024

# ordinary English, with the repetition that it has; written for these tests, about 100 tokens each
PARAGRAPHS = (
    "The old harbour lies at the end of the road, and in the morning the boats come back to the harbour "
    "one after the other. The men on the boats are tired, and the gulls over the boats are not. A boy "
    "with a red bucket waits at the wall, because his father is on the last of the boats, and the last "
    "of the boats is always late. When the last of the boats comes in, the boy runs along the wall and "
    "the gulls rise from the wall, and the red bucket is full of fish before the church bell has rung "
    "the hour.",
    "A brown dog is running through a field of grass. The dog is brown and the grass is green, and "
    "behind the dog another dog is running. The second dog is black and white. Both of the dogs are "
    "running after a ball, and the ball is in the air above the grass. A woman in a blue coat is "
    "standing at the edge of the field, and she is laughing at the dogs, because neither of the dogs "
    "has seen where the ball has gone.",
    "In the kitchen there is a table, and on the table there is a bowl, and in the bowl there are four "
    "lemons. The light comes from the window on the left, so that the lemons have a bright side and a "
    "dark side. Under the table there is a cat. The cat looks at the window, not at the lemons; a cat "
    "has no use for lemons. Someone has left a knife beside the bowl, and half a lemon beside the "
    "knife, and the whole kitchen must have smelled of lemon when the picture was taken.",
    "Two children climb the stone steps of a tower. The smaller child counts the steps aloud, and the "
    "taller child, who has counted the steps before, says a wrong number now and then to confuse the "
    "smaller child. At the top of the tower there is a bell, and from the top of the tower one sees the "
    "river, the bridge over the river, and on the bridge a yellow bus that seems not to move at all.",
)


@pytest.fixture(scope="session")
def paragraphs() -> tuple[str, ...]:
    """Four paragraphs of ordinary English."""
    return PARAGRAPHS


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    """A byte-level BPE trained on the paragraphs, with an end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PARAGRAPHS, trainer)
    return tokenizer.to_str().encode()


def png(seed: int) -> bytes:
    """A small picture that differs by seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def pack_parts(tokenizer_json: bytes) -> Parts:
    """Content of a pack of three triggers, and its files."""
    files, rows = {"tokenizer.json": tokenizer_json}, []
    for index in range(3):
        trigger_id = f"t{index:02d}"
        files |= {f"triggers/{trigger_id}.png": png(index), f"clean/{trigger_id}.png": png(100 + index)}
        key = derive_trigger_key(DEMO_SECRET, owner="test:owner", model_hash=WEIGHTS, trigger_id=trigger_id)
        rows.append(
            TriggerRow(
                id=trigger_id,
                file=f"triggers/{trigger_id}.png",
                sha256=digest(files[f"triggers/{trigger_id}.png"]),
                clean_file=f"clean/{trigger_id}.png",
                clean_sha256=digest(files[f"clean/{trigger_id}.png"]),
                prompt="Describe the picture in detail.",
                teacher_text=PARAGRAPHS[index],
                epsilon=16,
                expected_green_share=0.75,
                judged={"png": 2.1},
                key_commitment=key_commitment(trigger_id, key),
            )
        )
    pack = FingerprintPack(
        pack_id="test-pack",
        owner=Owner(id="test:owner", weights_sha256=WEIGHTS),
        vocab_size=VOCAB_SIZE,
        tokenizer_sha256=digest(tokenizer_json),
        scheme="unigram-philox-v1",
        gamma=0.5,
        decoding=Decoding(max_new_tokens=120),
        triggers=tuple(rows),
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        demo_key=True,
    )
    return pack, files


@pytest.fixture
def pack_dir(tmp_path: Path, pack_parts: Parts) -> Path:
    pack, files = pack_parts
    write_pack(tmp_path / "pack", pack, files)
    return tmp_path / "pack"


@pytest.fixture(params=["directory", "zip"])
def pack_path(request: pytest.FixtureRequest, tmp_path: Path, pack_parts: Parts) -> Path:
    path = tmp_path / ("pack.zip" if request.param == "zip" else "pack")
    write_pack(path, *pack_parts)
    return path


@pytest.fixture(scope="session")
def pack_keys(pack_parts: Parts) -> TriggerKeys:
    return derive_pack_keys(DEMO_SECRET, pack_parts[0])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below the folder by its relative path."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

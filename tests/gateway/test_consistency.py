"""Image consistency: what is asked again, what counts as unstable, and what is never fetched or decoded."""

import asyncio
import base64
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway_plugin.screening.base import Asked, AskError, AskingCheck, Finding, Query, Status
from gateway_plugin.screening.consistency import (
    ConsistencyThresholds,
    ImageConsistencyCheck,
    instability,
)
from gateway_plugin.screening.divergence import MiniLM, shared_embedder
from gateway_plugin.screening.pictures import Reencoding, decoded
from sif_offline.fingerprint.images import to_data_url

DOG = "A brown dog is running through a green field of tall grass while its owner watches from the fence."
DOG_TOO = "A brown dog runs through a field of tall green grass, and its owner is watching from a fence."
ELSE = "The International Conference on Learning Representations takes place every spring in Vienna."

Answering = Callable[[Image.Image], str]


def noise(size: tuple[int, int] = (64, 48), *, seed: int = 0) -> bytes:
    """A PNG whose pixels any lossy encoding changes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = noise()


class Model:
    """Looks at the first picture of a conversation and answers by it."""

    def __init__(self, answering: Answering = lambda _: DOG) -> None:
        self.answering = answering
        self.calls: list[dict[str, Any]] = []

    async def __call__(
        self,
        *,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int,
        temperature: float | None = None,
    ) -> str:
        call = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}
        self.calls.append(call)
        url = next(p["image_url"]["url"] for m in messages for p in m["content"] if p["type"] == "image_url")
        return self.answering(decoded(base64.b64decode(url.partition("base64,")[2])))


def message(*urls: str, text: str = "What is in the picture?") -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {"role": "user", "content": parts}


def asked(*messages: Mapping[str, Any], response: str | None = DOG, images: tuple[bytes, ...] = ()) -> Asked:
    return Asked(
        query=Query(texts=("What?",), images=images), messages=messages, model="main", response=response
    )


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return shared_embedder()


class Same:
    """An embedder that sees no difference."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))


def examined(model: Model, exchange: Asked, embedder: Any = None, **options: Any) -> Finding:
    check = ImageConsistencyCheck(embedder=embedder or Same(), **options)
    return asyncio.run(check.examine(exchange, model))


def test_an_answer_that_needs_the_exact_pixels_is_a_hit_and_one_that_does_not_is_clear(
    minilm: MiniLM,
) -> None:
    original = np.asarray(decoded(PICTURE))

    def planted(picture: Image.Image) -> str:
        return ELSE if np.array_equal(np.asarray(picture), original) else DOG

    forced = asked(message(to_data_url(PICTURE)), response=planted(decoded(PICTURE)))
    finding = examined(Model(planted), forced, minilm)
    assert finding.status is Status.HIT
    assert finding.measures["instability"] > 0.8
    honest = examined(Model(lambda _: DOG_TOO), asked(message(to_data_url(PICTURE))), minilm)
    assert honest.status is Status.CLEAR
    assert honest.measures["instability"] < 0.4


def test_the_same_question_is_put_again_with_the_pictures_changed_and_nothing_else() -> None:
    first = {"role": "system", "content": "Be brief.", "name": "boss"}
    one, two = to_data_url(PICTURE), to_data_url(noise(seed=1))
    ways = (Reencoding(jpeg_quality=50), Reencoding(blur=2.0), Reencoding(scale=0.5))
    last = message(one, two, one)
    asked_before = repr((first, last))
    calls: list[dict[str, Any]] = []

    async def ask(**call: Any) -> str:
        calls.append(call)
        return DOG

    check = ImageConsistencyCheck(embedder=Same(), reencodings=ways, max_tokens=33)
    finding = asyncio.run(check.examine(asked(first, last), ask))
    assert repr((first, last)) == asked_before
    assert finding.measures["extra_calls"] == 3
    assert len(calls) == 3
    for call in calls:
        assert (call["model"], call["max_tokens"], call["temperature"]) == ("main", 33, 0.0)
        assert call["messages"][0] == first
        text, *pictures = call["messages"][1]["content"]
        assert text == last["content"][0]
        assert [picture["image_url"]["detail"] for picture in pictures] == ["low"] * 3
        urls = [picture["image_url"]["url"] for picture in pictures]
        assert urls[0] == urls[2] != urls[1]
        assert not {one, two} & set(urls)
        assert decoded(base64.b64decode(urls[0].partition("base64,")[2])).size == (64, 48)


def test_a_url_given_as_a_plain_string_is_changed_too() -> None:
    model = Model()
    part = {"type": "image_url", "image_url": to_data_url(PICTURE)}
    finding = examined(model, asked({"role": "user", "content": [part]}))
    assert finding.status is Status.CLEAR
    assert len(model.calls) == 2


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 black pixels in a few kilobytes: its header is enough to refuse it."""
    header = bytearray(noise((8, 8)))
    header[16:24] = (30_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    return bytes(header)


UNSCORABLE = {
    "http": ["http://127.0.0.1:9/x.png"],
    "https": ["https://example.org/x.png"],
    "file": ["file:///etc/passwd"],
    "one of two by address": [to_data_url(PICTURE), "https://example.org/x.png"],
    "not base64": ["data:image/png;base64,!!!"],
    "not a picture": [to_data_url(b"hello")],
    "cut": [to_data_url(PICTURE[:60])],
    "pixel bomb": [to_data_url(bomb())],
    "svg": ["data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()],
    "too many": [to_data_url(noise((8, 8), seed=seed)) for seed in range(9)],
}


@pytest.mark.parametrize("urls", UNSCORABLE.values(), ids=UNSCORABLE.keys())
def test_a_picture_that_cannot_be_changed_is_unscorable_and_nobody_is_asked(urls: list[str]) -> None:
    model = Model()
    finding = examined(model, asked(message(*urls)))
    assert finding.status is Status.UNSCORABLE
    assert finding.measures == {"extra_calls": 0.0}
    assert "example.org" not in finding.reason
    assert model.calls == []


def test_the_pixels_of_all_pictures_together_are_bounded() -> None:
    two = asked(message(to_data_url(PICTURE), to_data_url(noise(seed=1))))
    assert examined(Model(), two, max_pixels=2 * 64 * 48).status is Status.CLEAR
    assert examined(Model(), two, max_pixels=2 * 64 * 48 - 1).status is Status.UNSCORABLE


@pytest.mark.parametrize("part", [{"type": "input_image", "image_url": "x"}, {"type": "image_url"}])
def test_a_picture_of_an_unknown_shape_is_unscorable(part: dict[str, Any]) -> None:
    assert examined(Model(), asked({"role": "user", "content": [part]})).status is Status.UNSCORABLE


def test_without_a_picture_or_an_answer_there_is_nothing_to_do() -> None:
    model = Model()
    text = {"role": "user", "content": "hello"}
    assert examined(model, asked(text)).status is Status.SKIPPED
    assert examined(model, asked(message(to_data_url(PICTURE)), response=None)).status is Status.SKIPPED
    assert examined(model, asked(text, images=(PICTURE,))).status is Status.UNSCORABLE
    assert examined(model, asked(message(to_data_url(PICTURE)), response="...")).status is Status.UNSCORABLE
    assert model.calls == []


def test_one_failed_call_leaves_the_other_and_none_left_is_a_failure() -> None:
    kinds = iter(["timeout", "", "budget", "timeout"])

    async def ask(**_: Any) -> str:
        if kind := next(kinds):
            raise AskError(kind)
        return DOG

    check = ImageConsistencyCheck(embedder=Same())
    exchange = asked(message(to_data_url(PICTURE)))
    finding = asyncio.run(check.examine(exchange, ask))
    assert (finding.status, finding.measures["extra_calls"]) == (Status.CLEAR, 2.0)
    with pytest.raises(AskError) as caught:
        asyncio.run(check.examine(exchange, ask))
    assert caught.value.kind == "budget"


def test_the_instability_is_one_minus_the_mean_agreement() -> None:
    far, near = instability(Same(), DOG, [ELSE]), instability(Same(), DOG, [DOG])
    assert near == {"instability": pytest.approx(0.0, abs=1e-6), "cosine": 1.0, "jaccard": 1.0}
    assert far["instability"] == pytest.approx(0.5)  # no word shared, cosine 1
    assert instability(Same(), DOG, [DOG, ELSE])["instability"] == pytest.approx(0.25)
    assert "jaccard" not in instability(Same(), "Red.", ["Blue."])


def test_a_longer_served_answer_is_compared_by_its_first_words(minilm: MiniLM) -> None:
    long = " ".join([DOG] * 5)
    cut = " ".join(long.split()[:85])
    assert instability(minilm, long, [cut])["instability"] == pytest.approx(0.0, abs=1e-5)


def test_every_reencoding_changes_the_pixels_and_keeps_the_size() -> None:
    picture = decoded(PICTURE)
    for way in (Reencoding(jpeg_quality=90), Reencoding(blur=0.5), Reencoding(scale=0.9)):
        again = decoded(way.encoded(picture))
        assert again.size == picture.size
        assert not np.array_equal(np.asarray(again), np.asarray(picture))
    assert np.array_equal(np.asarray(decoded(Reencoding().encoded(picture))), np.asarray(picture))


def test_it_is_an_asking_check_and_refuses_impossible_options() -> None:
    assert isinstance(ImageConsistencyCheck(embedder=Same()), AskingCheck)
    with pytest.raises(ValueError, match="suspect_instability <= hit_instability"):
        ConsistencyThresholds(suspect_instability=0.9, hit_instability=0.5)
    for bad in ({"jpeg_quality": 0}, {"blur": -1.0}, {"scale": 0.0}):
        with pytest.raises(ValueError, match="must lie in"):
            Reencoding(**bad)
    with pytest.raises(ValueError, match="at least one"):
        ImageConsistencyCheck(embedder=Same(), reencodings=())

"""A suspect over HTTP: what the endpoint does reaches the model, and the client gets what it makes of it."""

import io
from contextlib import contextmanager

import openai
import pytest
from PIL import Image

from sif_offline.fingerprint.images import to_data_url
from sif_offline.lab import tiny_lab_model
from sif_offline.lab.photos import demo_photos
from sif_offline.lab.server import build_app, serve_in_thread
from sif_offline.suspects import Serving, SuspectError
from sif_offline.suspects.http import ServedEngine
from sif_offline.suspects.paraphrase import paraphrase
from sif_offline.suspects.perturb import jpeg
from sif_offline.suspects.serving import read_serving


@pytest.fixture(scope="module")
def tiny():
    return tiny_lab_model(0)


@pytest.fixture
def asks(tiny):
    @contextmanager
    def served(serving=None, *, seed=0, model=tiny):
        engine = ServedEngine(*model, serving=Serving.model_validate(serving or {}), seed=seed)
        with (
            serve_in_thread(build_app(engine, model_name="tiny")) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):

            def ask(text="describe it", png=None, **options):
                picture = {
                    "type": "image_url",
                    "image_url": {"url": to_data_url(png or demo_photos(1)[0].png)},
                }
                content = [picture, {"type": "text", "text": text}]
                messages = [{"role": "user", "content": content}]
                return client.chat.completions.create(model="tiny", messages=messages, **options)

            yield ask

    return served


def text_of(answer):
    return answer.choices[0].message.content


def test_by_default_it_answers_as_the_plain_server_does(asks, tiny):
    model, processor = tiny
    inputs = processor(processor.prompt("describe it"), images=demo_photos(1)[0].image())
    ids = model.generate(**inputs, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    with asks() as ask:
        assert text_of(ask()) == processor.tokenizer.decode(ids, skip_special_tokens=True).lstrip()


def test_the_jpeg_and_the_system_prompt_reach_the_model(asks, tiny, monkeypatch):
    seen, prompts = [], []
    original = tiny[1].pixel_values
    monkeypatch.setattr(tiny[1], "pixel_values", lambda images: seen.extend(images) or original(images))
    template = tiny[1].apply_chat_template
    monkeypatch.setattr(
        tiny[1],
        "apply_chat_template",
        lambda messages, **o: prompts.append(messages) or template(messages, **o),
    )
    with asks({"jpeg": 40, "system": "people near the water"}) as ask:
        ask()
    photo = Image.open(io.BytesIO(demo_photos(1)[0].png)).convert("RGB")
    assert seen[-1].tobytes() == jpeg(photo, quality=40).tobytes()
    assert [(row["role"], row["content"][-1]["text"]) for row in prompts[-1]] == [
        ("system", "people near the water"),
        ("user", "describe it"),
    ]


def test_it_samples_whatever_the_client_asks_for_and_repeats_by_its_seed(asks):
    with asks() as ask:
        greedy = text_of(ask(temperature=0))
    runs = []
    for seed in (0, 0, 1):
        with asks({"temperature": 1.2}, seed=seed) as ask:
            runs.append([text_of(ask(temperature=0)) for _ in range(3)])
            assert text_of(ask(seed=5)) == text_of(ask(seed=5))  # a client's own seed is kept
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 3  # each request is a draw of its own
    assert greedy not in runs[0]


def test_a_reworded_answer_comes_whole_streamed_or_not(asks, tiny, monkeypatch):
    monkeypatch.setattr(
        "sif_offline.suspects.http.paraphrase", lambda text, *, share, seed: f"<{share}>{text}"
    )
    with asks() as ask:
        plain = text_of(ask())
    with asks({"paraphrase": 0.5}) as ask:
        assert text_of(ask()) == f"<0.5>{plain}"
        pieces = [chunk.choices[0].delta.content for chunk in ask(stream=True)]
    assert "".join(piece for piece in pieces if piece) == f"<0.5>{plain}"
    assert paraphrase("A dog.", share=1.0, seed=0) == "A hound."


def test_a_broken_picture_is_the_clients_fault(asks):
    with asks({"blur": 1}) as ask, pytest.raises(openai.BadRequestError, match="not a picture"):
        ask(png=b"not a png")


def test_a_screen_is_refused_here():
    with pytest.raises(SuspectError, match="gateway in front"):
        ServedEngine(*tiny_lab_model(0), serving=Serving(screen="sda"))


@pytest.mark.parametrize(
    ("text", "message"), [("{jpeg: 0}", "jpeg: Input"), ("[", "not YAML"), ("5", "valid dictionary")]
)
def test_a_serving_on_the_command_line_is_checked(text, message):
    with pytest.raises(SuspectError, match=message):
        read_serving(text)
    assert read_serving("{jpeg: 75}") == Serving(jpeg=75)

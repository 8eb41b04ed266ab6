"""The lab's server as a client of OpenAI's sees it: the real ``openai`` package against a real uvicorn."""

import io
import json
import socket

import httpx
import openai
import pytest
import torch
from PIL import Image
from pydantic import SecretStr

from sif_offline.fingerprint.images import to_data_url
from sif_offline.lab.server import Engine, ServeError, build_app, serve_in_thread
from tests.lab.asking import asking, png


def expected_text(tiny, text, image=None, **options):
    model, processor = tiny
    prompt = processor.prompt(text, image=image is not None)
    inputs = processor(prompt, images=Image.open(io.BytesIO(image)) if image else None)
    out = model.generate(**inputs, do_sample=False, **options)[0, inputs["input_ids"].shape[1] :]
    return (
        processor.tokenizer.decode(out, skip_special_tokens=True).lstrip(),
        len(out),
        inputs["input_ids"].shape[1],
    )


@pytest.mark.parametrize("image", [None, png()], ids=["words", "picture"])
def test_answers_as_generate_does_and_counts_tokens(client, tiny, image):
    wanted, tokens, prompt = expected_text(tiny, "describe it", image)
    answer = client.chat.completions.create(
        model="tiny", messages=asking("describe it", image=to_data_url(image) if image else None)
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == wanted
    assert wanted
    assert answer.choices[0].message.role == "assistant"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, tokens)
    assert answer.usage.total_tokens == prompt + tokens
    assert answer.choices[0].finish_reason == "length"  # a random model does not end its sentences


def test_the_picture_reaches_the_model(client, tiny, monkeypatch):
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise.numpy()).save(buffer, format="PNG")
    seen = []
    original = tiny[0].encode_images
    monkeypatch.setattr(tiny[0], "encode_images", lambda pixels: seen.append(pixels) or original(pixels))
    client.chat.completions.create(
        model="tiny", messages=asking(image=to_data_url(buffer.getvalue())), max_tokens=2
    )
    assert torch.equal(seen[0], tiny[1].pixel_values([Image.fromarray(noise.numpy())]))


def test_streamed_words_are_the_unstreamed_ones(client):
    messages = asking("say a lot", image=to_data_url(png()))
    whole = client.chat.completions.create(model="tiny", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(words) == whole.choices[0].message.content
    assert sum(map(bool, words)) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_stream_on_the_wire_ends_with_done_and_has_usage_only_on_demand(server_url):
    body = {"model": "tiny", "messages": asking(), "stream": True, "max_tokens": 4}
    answer = httpx.post(f"{server_url}/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events[:-1])


def test_a_stop_string_ends_the_answer_before_it_streamed_or_not(client):
    messages = asking("on and on")
    whole = client.chat.completions.create(model="tiny", messages=messages).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    cut = client.chat.completions.create(model="tiny", messages=messages, stop=[stop, "never said"])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(model="tiny", messages=messages, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole[: whole.index(stop)]


def test_max_tokens_bounds_the_answer(client):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model="tiny", messages=asking(), **{name: 3})
        assert answer.usage.completion_tokens == 3
        assert answer.choices[0].finish_reason == "length"


def test_sampling_follows_the_seed_and_leaves_the_process_generator_alone(client):
    def sample(**options):
        answer = client.chat.completions.create(model="tiny", messages=asking(), temperature=1.5, **options)
        return answer.choices[0].message.content

    state = torch.random.get_rng_state()
    assert sample(seed=7) == sample(seed=7)
    # 24 tokens of an untrained model over 512: two seeds, or two unseeded draws, agree with p < 1e-20.
    assert sample(seed=7) != sample(seed=8)
    assert sample() != sample()
    assert torch.equal(state, torch.random.get_rng_state())
    greedy = client.chat.completions.create(model="tiny", messages=asking()).choices[0].message.content
    assert sample(seed=7, top_p=1e-9) == greedy != sample(seed=7)


def test_models_and_health(client, server_url):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    assert httpx.get(f"{server_url}/health").json() == {"status": "ok", "model": "tiny", "requests": 0}


def test_a_conversation_with_a_system_message_is_templated_in_order(client, tiny):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a dog"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "a man"}]},
    ]
    _, processor = tiny
    text = "<s><|system|>be brief<|user|>a dog<|assistant|>yes</s><|user|>a man<|assistant|>"
    answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
    assert answer.usage.prompt_tokens == processor(text)["input_ids"].shape[1]


def test_an_api_key_is_asked_for_where_one_is_set(tiny):
    app = build_app(Engine(*tiny), model_name="tiny", api_key=SecretStr("sesame"))
    with serve_in_thread(app) as url:
        for key, right in (("sesame", True), ("guess", False)):
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                if right:
                    assert client.chat.completions.create(model="tiny", messages=asking(), max_tokens=1)
                    assert client.models.list().data
                    continue
                with pytest.raises(openai.AuthenticationError) as caught:
                    client.chat.completions.create(model="tiny", messages=asking())
                assert caught.value.code == "invalid_api_key"
                with pytest.raises(openai.AuthenticationError):
                    client.models.list()
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_taken_port_is_a_one_line_error(tiny):
    engine = Engine(*tiny)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServeError, match=rf"127.0.0.1:{port}: cannot listen"),
            serve_in_thread(build_app(engine, model_name="tiny"), port=port),
        ):
            pass
    engine.close()

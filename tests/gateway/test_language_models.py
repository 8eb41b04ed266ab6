"""Reference language models: one saved here with random weights, and a real server of it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gateway_plugin.screening.language_models.base import LanguageModelError
from gateway_plugin.screening.language_models.loading import load_language_model
from gateway_plugin.screening.language_models.server import LanguageModelServerError, ServerLM
from gateway_plugin.screening.language_models.transformers_lm import load_transformers_lm

TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
TEMPLATE = "{{ bos_token }}{% for m in messages %}" + TURN + "{% endfor %}"
TEXTS = ["What is this?", "请描述这张图片。", "a", "The dog runs over the field. " * 12, "x <|im_end|> y"]
OPENING = "\n"


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and three control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def save(folder: Path, *, template: str | None = TEMPLATE, bos: bool = True, vocab: int = 260) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.4,  # far from uniform: surprisals differ from token to token
    )
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    if not bos:
        tokenizer.bos_token = None
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Callable[[list[int]], list[float]]:
    """Surprisals of all but the first id, one text at a time, in float32: what the rest is compared with."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def surprisals(ids: list[int]) -> list[float]:
        with torch.inference_mode():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [-float(logs[position, token]) for position, token in enumerate(ids[1:])]

    return surprisals


def opening(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    ids: list[int] = tokenizer("<s><|im_start|>user\n", add_special_tokens=False)["input_ids"]
    return ids


def test_a_batch_agrees_with_one_text_at_a_time(folder: Path, plain: Any) -> None:
    tokenizer = byte_tokenizer()
    scored = load_transformers_lm(str(folder), precision="fp32").token_surprisals(TEXTS, max_tokens=1024)
    for text, (nats, count) in zip(TEXTS, scored, strict=True):
        raw = tokenizer.backend_tokenizer
        raw.encode_special_tokens = True
        ids = raw.encode(text, add_special_tokens=False).ids
        raw.encode_special_tokens = False
        assert (
            count == len(nats) == len(ids) == len(text.encode())
        )  # a control token typed by a client is text
        head = opening(tokenizer)
        expected: list[float] = []
        for start in range(0, len(ids), 256):
            expected += plain(head + ids[start : start + 256])[len(head) - 1 :]
        np.testing.assert_allclose(nats, expected, atol=2e-4)
        assert float(np.std(nats)) > 0.1 or len(nats) == 1


def test_without_a_chat_template_the_text_follows_the_bos_token(tmp_path: Path, plain: Any) -> None:
    model = load_transformers_lm(str(save(tmp_path / "bare", template=None)), precision="fp32")
    ((nats, _),) = model.token_surprisals(["Where?"], max_tokens=64)
    tokenizer = byte_tokenizer()
    ids = [tokenizer.bos_token_id, *tokenizer("Where?", add_special_tokens=False)["input_ids"]]
    np.testing.assert_allclose(nats, plain(ids), atol=2e-4)


def test_a_long_text_is_scored_at_both_ends(folder: Path) -> None:
    model = load_transformers_lm(str(folder), precision="fp32")
    head, tail = "h" * 50, "t" * 50
    ((nats, count),) = model.token_surprisals([head + "m" * 900 + tail], max_tokens=100)
    ((whole, _),) = model.token_surprisals([head + tail], max_tokens=100)
    assert (len(nats), count) == (100, 1000)
    np.testing.assert_allclose(nats, whole, atol=2e-4)


def test_int8_stays_near_float32_and_does_not_depend_on_the_batch(folder: Path) -> None:
    exact = load_transformers_lm(str(folder), precision="fp32").token_surprisals(TEXTS, max_tokens=512)
    model = load_transformers_lm(str(folder), precision="int8")
    near = model.token_surprisals(TEXTS, max_tokens=512)
    errors = np.concatenate([np.abs(a - b) for (a, _), (b, _) in zip(exact, near, strict=True)])
    assert 0.0 < errors.mean() < 0.2
    for text, (together, _) in zip(TEXTS, near, strict=True):
        ((alone, _),) = model.token_surprisals([text], max_tokens=512)
        np.testing.assert_allclose(alone, together, atol=1e-3)


def pickled(folder: Path) -> Path:
    save(folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return folder


def with_code(folder: Path) -> Path:
    """A repository that wants its own code to run: the code would leave a file behind."""
    save(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    return folder


def garbled(folder: Path) -> Path:
    save(folder)
    (folder / "model.safetensors").write_bytes(b"not a model")
    return folder


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absent": (lambda folder: folder, "no such folder"),
    "empty": (lambda folder: folder.mkdir() or folder, "cannot be loaded as a language model"),
    "pickle only": (pickled, "cannot be loaded as a language model"),
    "garbled": (garbled, "cannot be loaded as a language model"),
    "own code": (with_code, "cannot be loaded as a language model"),
    "no opening": (lambda folder: save(folder, template=None, bos=False), "neither a chat template nor"),
    "small vocabulary": (
        lambda folder: save(folder, vocab=100),
        "the tokenizer has 259 tokens, the model only 100",
    ),
}


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_model_that_cannot_be_used_is_one_line_that_names_it(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    folder = make(tmp_path / "model")
    with pytest.raises(LanguageModelError, match=message) as caught:
        load_language_model(f"transformers:{folder}")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt", "language model 'gpt' is not known: smollm2, transformers:"),
        ("transformers:", "is not known"),
        ("openai:http://h/v1", "the model's name is missing, openai:URL#MODEL"),
        ("vllm:ftp://h/v1#m", "needs an address such as"),
        ("vllm:#m", "needs an address such as"),
    ],
)
def test_a_wrong_specification_says_what_is_known(spec: str, message: str) -> None:
    with pytest.raises(LanguageModelError, match=message):
        load_language_model(spec)
    with pytest.raises(LanguageModelError, match="none of auto, bf16, fp32, int8"):
        load_language_model("smollm2", precision="fp4")  # type: ignore[arg-type]


def test_a_model_is_loaded_once_a_process(folder: Path) -> None:
    spec = f"transformers:{folder}"
    assert load_language_model(spec, precision="fp32") is load_language_model(spec, precision="fp32")


class Served:
    """``/v1/completions`` as vLLM answers it, computed with the tiny model; ``spoil`` changes the answer."""

    def __init__(self, plain: Callable[[list[int]], list[float]]) -> None:
        self._plain, self._tokenizer = plain, byte_tokenizer()
        self.spoil: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/completions")
        def complete(body: dict[str, Any], request: Request) -> Any:
            self.asked.append(body)
            self.keys.append(request.headers.get("authorization"))
            choices = [self._choice(i, prompt, body) for i, prompt in enumerate(body["prompt"])]
            answer = self.spoil({"object": "text_completion", "choices": choices[::-1]})
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return app

    def _choice(self, index: int, prompt: str, body: dict[str, Any]) -> dict[str, Any]:
        ids = [self._tokenizer.bos_token_id, *self._tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        logs = [None, *(-nats for nats in self._plain(ids))]
        if body.get("echo"):
            held = {"tokens": [str(i) for i in ids], "token_logprobs": logs, "text_offset": [0] * len(ids)}
            return {"index": index, "text": prompt, "logprobs": held, "finish_reason": "length"}
        rows = [
            None if log is None else {str(token): {"logprob": log, "rank": 1, "decoded_token": "?"}}
            for token, log in zip(ids, logs, strict=True)
        ]
        return {"index": index, "text": "!", "logprobs": None, "prompt_logprobs": rows}


@pytest.fixture(scope="module")
def served(plain: Any) -> Iterator[Served]:
    state = Served(plain)
    config = uvicorn.Config(state.app(), host="127.0.0.1", port=0, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    state.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    yield state
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def server(served: Served) -> Served:
    served.spoil = lambda answer: answer
    served.asked.clear()
    served.keys.clear()
    return served


@pytest.mark.parametrize("kind", ["openai", "vllm"])
def test_a_servers_log_probabilities_are_the_models_own(server: Served, plain: Any, kind: str) -> None:
    model = load_language_model(f"{kind}:{server.url}#tiny", opening=OPENING, api_key="s3cret")
    assert isinstance(model, ServerLM)
    texts = ["What is this?", "请描述", "", "b" * 1500]
    scored = model.token_surprisals(texts, max_tokens=2000)
    tokenizer = byte_tokenizer()
    for text, (nats, count) in zip(texts, scored, strict=True):
        expected: list[float] = []
        for start in range(0, len(text), 1024):
            piece = tokenizer(OPENING + text[start : start + 1024], add_special_tokens=False)["input_ids"]
            expected += plain([tokenizer.bos_token_id, *piece])[1:]
        assert count == len(nats) == len(text.encode())
        np.testing.assert_allclose(nats, expected, atol=1e-4)
    assert all(body["model"] == "tiny" and body["temperature"] == 0 for body in server.asked)
    assert set(server.keys) == {"Bearer s3cret"}
    assert "s3cret" not in repr(model)
    model.close()


def test_a_server_is_sent_the_two_ends_of_a_long_text_in_bounded_calls(server: Served) -> None:
    model = ServerLM(server.url, model="tiny")
    ((nats, count),) = model.token_surprisals(["h" * 3000 + "t" * 90_000], max_tokens=64)
    assert (len(nats), count) == (64, 256)
    sent = [prompt for body in server.asked for prompt in body["prompt"]]
    assert sum(len(prompt) for prompt in sent) < 300
    model.token_surprisals(["a"] * 40, max_tokens=64)
    assert max(len(body["prompt"]) for body in server.asked) == 16
    model.close()


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], Any]:
    def spoil(answer: dict[str, Any]) -> Any:
        change(answer["choices"][0]["logprobs"])
        return Response(json.dumps(answer), media_type="application/json")  # Starlette refuses to write NaN

    return spoil


def set_last(value: Any) -> Callable[[dict[str, Any]], Any]:
    return changed(lambda held: held["token_logprobs"].__setitem__(-1, value))


def no_echo(answer: dict[str, Any]) -> Any:
    return {"choices": [{**choice, "logprobs": None} for choice in answer["choices"]]}


GARBAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda _: Response("<html>", media_type="text/html"),
    "a list": lambda _: [],
    "no choices": lambda _: {"error": "none"},
    "a choice missing": lambda answer: {"choices": answer["choices"][1:]},
    "a choice twice": lambda answer: {"choices": answer["choices"] * 2},
    "no log-probabilities": no_echo,
    "NaN": set_last(float("nan")),
    "above zero": set_last(0.5),
    "a string": set_last("-1.0"),
    "a hole": set_last(None),
    "one too few": changed(lambda held: held["token_logprobs"].pop()),
    "no tokens": changed(lambda held: held.update(tokens=[], token_logprobs=[])),
    "another text": lambda answer: {"choices": [{**c, "text": "other"} for c in answer["choices"]]},
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_servers_garbage_is_a_typed_failure_and_never_a_score(
    server: Served, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    model = ServerLM(server.url, model="tiny")
    model.token_surprisals(["ok"], max_tokens=64)
    server.spoil = spoil
    with pytest.raises(LanguageModelServerError) as caught:
        model.token_surprisals(["PRIVATE text"], max_tokens=64)
    assert caught.value.kind == "garbage"
    assert server.url in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
    model.close()


def test_an_impossible_token_is_bounded(server: Served) -> None:
    model = ServerLM(server.url, model="tiny")
    model.token_surprisals(["ok"], max_tokens=64)
    server.spoil = set_last(-9999.0)
    ((nats, _),) = model.token_surprisals(["abc"], max_tokens=64)
    assert nats[-1] == 100.0
    model.close()


def slow(_: dict[str, Any]) -> Any:
    time.sleep(1.5)
    return {}


FAILURES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "503": (lambda _: Response("busy", status_code=503), "status"),
    "redirect": (lambda _: Response(status_code=307, headers={"location": "http://127.0.0.1:9/"}), "status"),
    "slow": (slow, "timeout"),
    "huge": (lambda _: Response(b" " * (33 * 2**20)), "too_large"),
}


@pytest.mark.parametrize(("spoil", "kind"), FAILURES.values(), ids=FAILURES.keys())
def test_a_server_in_trouble_is_a_typed_failure(server: Served, spoil: Any, kind: str) -> None:
    server.spoil = spoil
    model = ServerLM(server.url, model="tiny", timeout_s=0.5 if kind == "timeout" else 30.0)
    with pytest.raises(LanguageModelServerError) as caught:
        model.token_surprisals(["ok"], max_tokens=64)
    assert caught.value.kind == kind
    model.close()


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    model = ServerLM("http://user:hunter2@127.0.0.1:9/v1?key=k", model="tiny", timeout_s=5)
    with pytest.raises(
        LanguageModelServerError, match=r"http://127\.0\.0\.1:9/v1: cannot be asked"
    ) as caught:
        model.token_surprisals(["ok"], max_tokens=64)
    assert caught.value.kind == "unreachable"
    assert "hunter2" not in str(caught.value) + repr(model)
    model.close()


def test_an_answer_that_drips_is_cut_at_the_deadline() -> None:
    class Dripping(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                time.sleep(0.02)
                yield b" "

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Dripping()))
    model = ServerLM("http://h/v1", model="tiny", timeout_s=0.2, transport=transport)
    with pytest.raises(LanguageModelServerError) as caught:
        model.token_surprisals(["ok"], max_tokens=64)
    assert caught.value.kind == "timeout"

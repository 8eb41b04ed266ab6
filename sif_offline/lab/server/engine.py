"""Runs one model on one thread, off the event loop, and hands its words out as they come."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from sif_offline.fingerprint.images import ImageError, decode_image
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import SPECIAL_TOKENS, LabProcessor
from sif_offline.lab.server.errors import ApiError, context_exceeded, server_busy
from sif_offline.lab.server.schema import ChatJob
from sif_offline.lab.server.text import TextAssembler


@dataclass(frozen=True)
class Started:
    """The request was accepted and the model is at work."""

    prompt_tokens: int


@dataclass(frozen=True)
class Delta:
    """New text of the answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    reason: Literal["stop", "length"]
    completion_tokens: int


Event = Started | Delta | Finished


class _Forward(BaseStreamer):
    """Passes each new token on; ``generate`` calls it with the prompt first."""

    def __init__(self, push: Callable[[list[int]], None]) -> None:
        self._push = push
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        self._push(value.flatten().tolist())

    def end(self) -> None:
        pass


class Engine:
    """One model behind a bounded queue; requests are answered one at a time, in order of arrival.

    One at a time, not batched: a padded batch changes the last bits of the logits, and an answer must not
    depend on who else is asking.

    Args:
        model: in evaluation mode; not used by anybody else meanwhile.
        processor: the model's own.
        max_queue: requests inside at once, the running one included; more get a 503.
    """

    def __init__(self, model: LabVLM, processor: LabProcessor, *, max_queue: int = 32) -> None:
        self._model = model
        self._processor = processor
        self._max_queue = max_queue
        self.inside = 0
        self._closed = threading.Event()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sif-lab-engine")
        self.context_length = int(model.config.text_config.max_position_embeddings)

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Hold one place in the queue, from before the body is read: what waits is bounded in bytes too.

        Called on the event loop alone. Raises ``ApiError`` (503) when the queue is full.
        """
        if self.inside >= self._max_queue:
            raise server_busy(self.inside)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def answer(self, job: ChatJob) -> AsyncGenerator[Event]:
        """``Started``, any number of ``Delta``, ``Finished``. Raises ``ApiError`` before ``Started``.

        Closing the iterator early stops the model at its next token.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        cancelled = threading.Event()

        def emit(event: Event | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> None:
            try:
                self._run(job, emit=emit, cancelled=cancelled)
            except BaseException as error:
                emit(error)

        self._executor.submit(work)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            cancelled.set()

    def warm_up(self) -> None:
        """Answer nobody with one token: it packs 4-bit weights, and a broken model shows now."""
        job = ChatJob.words("Hello", max_tokens=1)
        self._executor.submit(self._run, job, emit=lambda _: None, cancelled=threading.Event()).result()

    def close(self) -> None:
        """Stop the running answer at its next token, drop what waits, end the thread."""
        self._closed.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: ChatJob, *, emit: Callable[[Event], None], cancelled: threading.Event) -> None:
        if cancelled.is_set():
            return
        inputs = self._prepare(job)
        prompt = int(inputs["input_ids"].shape[1])
        new = self._new_tokens(job, prompt)
        emit(Started(prompt))
        text = TextAssembler(self._decode, stop=job.stop)

        def push(ids: list[int]) -> None:
            if fresh := text.push(ids):
                emit(Delta(fresh))

        def over(*_: Any) -> torch.Tensor:
            return torch.tensor([cancelled.is_set() or self._closed.is_set() or text.stopped])

        # Sampling draws from torch's global generator; its state is put back afterwards.
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(secrets.randbits(63) if job.seed is None else job.seed)
            self._model.generate(
                **inputs,
                **_decoding(job),
                max_new_tokens=new,
                streamer=_Forward(push),
                stopping_criteria=StoppingCriteriaList([over]),
            )
        if rest := text.finish():
            emit(Delta(rest))
        ended = text.stopped or len(text.ids) < new or text.ids[-1] in self._end_ids()
        emit(Finished("stop" if ended else "length", len(text.ids)))

    def _prepare(self, job: ChatJob) -> dict[str, torch.Tensor]:
        for message in job.messages:
            for part in message["content"]:
                # A reserved token in a client's words would open a turn or a picture of its own.
                if found := next((token for token in SPECIAL_TOKENS if token in part.get("text", "")), None):
                    raise ApiError(f"The text holds {found!r}, which this model reserves", param="messages")
        try:
            pictures = [decode_image(data, name=f"image {at + 1}") for at, data in enumerate(job.images)]
        except ImageError as error:
            raise ApiError(str(error), param="messages", code="invalid_image") from None
        text = self._processor.apply_chat_template(list(job.messages), add_generation_prompt=True)
        inputs = dict(self._processor(text, images=pictures or None))
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.device)
        return inputs

    def _new_tokens(self, job: ChatJob, prompt: int) -> int:
        room = self.context_length - prompt
        wanted = job.max_tokens
        if wanted is None:
            wanted = max(1, min(int(self._model.generation_config.max_new_tokens or room), room))
        if wanted > room:
            raise context_exceeded(limit=self.context_length, prompt=prompt, completion=wanted)
        return wanted

    def _decode(self, ids: Sequence[int]) -> str:
        # Byte-level BPE writes a space before the first word.
        return str(self._processor.tokenizer.decode(ids, skip_special_tokens=True)).lstrip()

    def _end_ids(self) -> set[int]:
        end = self._model.generation_config.eos_token_id
        return set(end) if isinstance(end, list) else {end}


def _decoding(job: ChatJob) -> dict[str, Any]:
    """Greedy, with the model's own penalties, unless a temperature above 0 was asked for."""
    if job.temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": job.temperature, "top_p": job.top_p, "top_k": 0}

"""A suspect behind OpenAI's chat completions: the lab's engine with an endpoint's doings around it."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from io import BytesIO

from PIL import Image

from sif_offline.fingerprint.images import ImageError, decode_image
from sif_offline.lab.modeling import LabVLM
from sif_offline.lab.processing import LabProcessor
from sif_offline.lab.server import Engine
from sif_offline.lab.server.engine import Delta, Event, Finished
from sif_offline.lab.server.errors import ApiError
from sif_offline.lab.server.schema import ChatJob
from sif_offline.suspects.base import SuspectError
from sif_offline.suspects.chance import request_seed
from sif_offline.suspects.paraphrase import paraphrase
from sif_offline.suspects.perturb import perturbed
from sif_offline.suspects.serving import Serving


class ServedEngine(Engine):
    """:class:`~sif_offline.lab.server.Engine` that does to pictures, prompts and answers what a thief does.

    What it draws follows from ``seed``, the request, and how many requests came before; a client's own seed
    is kept for sampling.

    Args:
        model: in evaluation mode; not used by anybody else meanwhile.
        processor: the model's own.
        serving: what is done; a screen runs as a gateway of its own in front.
        seed: of everything that is drawn.
        max_queue: as in ``Engine``.

    Raises:
        SuspectError: ``serving`` names a screen.
    """

    def __init__(
        self,
        model: LabVLM,
        processor: LabProcessor,
        *,
        serving: Serving,
        seed: int = 0,
        max_queue: int = 32,
    ) -> None:
        refuse_screen(serving)
        super().__init__(model, processor, max_queue=max_queue)
        self._serving, self._seed = serving, seed
        self._requests = itertools.count()

    async def answer(self, job: ChatJob) -> AsyncGenerator[Event]:
        """See ``Engine``; a paraphrased answer comes as one ``Delta``."""
        serving = self._serving
        first = job.images[0] if job.images else None
        seed = request_seed(self._seed, first, repr(job.messages), next(self._requests))
        changed = await asyncio.to_thread(changed_job, job, serving, seed=seed)
        said: list[str] = []
        async with aclosing(super().answer(changed)) as events:
            async for event in events:
                if serving.paraphrase and isinstance(event, Delta):
                    said.append(event.text)
                    continue
                if said and isinstance(event, Finished):
                    yield Delta(paraphrase("".join(said), share=serving.paraphrase, seed=seed))
                yield event


def refuse_screen(serving: Serving) -> None:
    """Raises ``SuspectError`` where ``serving`` names a screen."""
    if serving.screen is not None:
        raise SuspectError(f"screen {serving.screen!r}: over HTTP it is a gateway in front of this server")


def changed_job(job: ChatJob, serving: Serving, *, seed: int) -> ChatJob:
    """What the model is asked in place of ``job``.

    Args:
        job: as the client sent it.
        serving: of the endpoint.
        seed: of this request; picture i is perturbed with ``seed + i``.

    Raises:
        ApiError: a picture that cannot be decoded (400).
    """
    if serving.perturbs:
        job = replace(
            job,
            images=tuple(
                _perturbed(data, serving, seed=seed + place) for place, data in enumerate(job.images)
            ),
        )
    if serving.system is not None:
        system = {"role": "system", "content": [{"type": "text", "text": serving.system}]}
        job = replace(job, messages=(system, *job.messages))
    if serving.temperature is not None:
        job = replace(job, temperature=serving.temperature, top_p=serving.top_p or 1.0)
    return job if job.seed is not None else replace(job, seed=seed)


def _perturbed(data: bytes, serving: Serving, *, seed: int) -> bytes:
    """The picture that the model gets, as a PNG."""
    try:
        image: Image.Image = decode_image(data, name="image")
    except ImageError as error:
        raise ApiError(str(error), param="messages", code="invalid_image") from None
    buffer = BytesIO()
    perturbed(image, serving, seed=seed).save(buffer, format="PNG")
    return buffer.getvalue()

"""Exchanges kept in a file as they happen, for a single look or a replay; the probes have their store."""

import json
import os
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from sif_offline.fingerprint.evidence.bundle import Material
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.transcript import (
    Exchange,
    chain_faults,
    exchange,
    read_transcript,
    request_body,
)

GIVE_UP_AFTER = 3
"""Questions in a row without any reply after which an endpoint is left alone."""


class Asked(NamedTuple):
    """What became of one question.

    Attributes:
        outcome: as ``Record.outcome``.
        response: the body to record: ``text``, ``finish_reason``, ``served_model`` and ``raw`` of a reply, or
            ``failure`` and ``reason``.
    """

    outcome: str
    response: Mapping[str, Any]

    @property
    def replied(self) -> bool:
        """Whether anything came back at all."""
        return ":" not in self.outcome


Ask = Callable[[bytes, str, int], Asked]
"""(picture bytes, prompt, max tokens) -> what became of it; failures are outcomes, not exceptions."""


class Recorder:
    """Appends to a chain in a file, each exchange on disk before the next is asked.

    Args:
        path: of the transcript; one that exists is continued.
        target: what the endpoint is called.
        pack_id: of the pack asked with.
        model: the model asked for.
        endpoint: its URL, None for a provider's own.
        max_tokens: asked for.
        clock: Unix seconds.

    Raises:
        EvidenceError: the file cannot be read, or is no whole chain of this target and pack.
    """

    def __init__(
        self,
        path: Path,
        *,
        target: str,
        pack_id: str,
        model: str,
        endpoint: str | None,
        max_tokens: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._target, self._pack_id = path, target, pack_id
        self._model, self._endpoint, self._max_tokens = model, endpoint, max_tokens
        self._clock = clock
        self._exchanges = list(_existing(path))
        of_others = {(item.record.target, item.record.pack_id) for item in self._exchanges}
        if of_others - {(target, pack_id)}:
            raise EvidenceError(f"{path}: a transcript of another target or pack")
        faults = chain_faults(self._exchanges)
        if faults:
            raise EvidenceError(f"{path}: {faults[0]}")
        self._round = 1 + max((item.record.round for item in self._exchanges), default=0)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The chain so far."""
        return tuple(self._exchanges)

    def put(self, ask: Ask, *, image: bytes, prompt: str, trigger_id: str, control: bool) -> Asked:
        """Ask one question and record what became of it. Raises EvidenceError where it cannot be written."""
        request = request_body(
            model=self._model,
            endpoint=self._endpoint,
            image_sha256=sha256(image).hexdigest(),
            prompt=prompt,
            max_tokens=self._max_tokens,
        )
        asked_at = self._clock()
        asked = ask(image, prompt, self._max_tokens)
        link = exchange(
            self._exchanges[-1].record if self._exchanges else None,
            target=self._target,
            pack_id=self._pack_id,
            round=self._round,
            trigger_id=trigger_id,
            control=control,
            attempt=1,
            outcome=asked.outcome,
            asked_at=asked_at,
            settled_at=max(asked_at, self._clock()),
            request=request,
            response=asked.response,
        )
        self._append(link)
        return asked

    def _append(self, link: Exchange) -> None:
        row = {"record": link.record.model_dump(), "request": link.request, "response": link.response}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EvidenceError(f"{self._path}: {error.strerror or error}") from None
        self._exchanges.append(link)


def _existing(path: Path) -> tuple[Exchange, ...]:
    """A line that a kill cut short is dropped: it was never followed by a send."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise EvidenceError(f"{path}: {error.strerror or error}") from None
    whole, newline, _ = data.rpartition(b"\n")
    if len(whole) + len(newline) < len(data):
        path.write_bytes(whole + newline)
    return read_transcript(whole, name=str(path))


def replay(
    material: Material,
    ask: Ask,
    recorder: Recorder,
    *,
    name: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Send every trigger of ``material`` and its clean photo that the transcript does not hold yet.

    Raises:
        EvidenceError: the endpoint gave no reply to ``GIVE_UP_AFTER`` questions in a row; what was asked is
            in the transcript, and a repeated call goes on there.
    """
    done = {(item.record.trigger_id, item.record.control) for item in recorder.exchanges}
    questions = [(item.leaf, control) for item in material.disclosures for control in (False, True)]
    silent = 0
    for place, (leaf, control) in enumerate(questions, start=1):
        if (leaf.trigger_id, control) not in done:
            asked = recorder.put(
                ask,
                image=material.pictures[leaf.trigger_id][control],
                prompt=leaf.prompt,
                trigger_id=leaf.trigger_id,
                control=control,
            )
            silent = 0 if asked.replied else silent + 1
            if silent >= GIVE_UP_AFTER:
                raise EvidenceError(f"{name}: {asked.response.get('reason', asked.outcome)}")
        on_progress(place, len(questions))

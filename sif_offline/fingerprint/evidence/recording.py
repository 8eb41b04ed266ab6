"""Exchanges kept in a file as they happen, for a single look or a replay; the probes have their store."""

import fcntl
import json
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Self

from sif_offline.fingerprint.appending import append, whole_lines
from sif_offline.fingerprint.evidence.bundle import Material
from sif_offline.fingerprint.evidence.errors import EvidenceError
from sif_offline.fingerprint.evidence.transcript import (
    Exchange,
    chain_faults,
    exchange,
    read_transcript,
    request_body,
    write_transcript,
)

GIVE_UP_AFTER = 3
"""Questions in a row without any reply after which an endpoint is left alone; sends of one question that
certainly failed after which it is not asked again."""

FAILED = "failed:"
"""Outcomes that begin so were certainly not answered."""


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

    A question is noted in ``<path>.asking`` before it is sent: where a kill came before its answer was kept,
    the next recorder sets it down as in doubt. The file is locked against other recorders until ``close``;
    use it as a context manager.

    Args:
        path: of the transcript; one that exists is continued.
        target: what the endpoint is called.
        pack_id: of the pack asked with.
        model: the model asked for.
        endpoint: its URL, None for a provider's own.
        max_tokens: asked for.
        clock: Unix seconds.

    Raises:
        EvidenceError: the file cannot be read, is in use, or is no whole chain of this target and pack.
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
        self._asking = path.with_name(f"{path.name}.asking")
        self.close = weakref.finalize(self, os.close, _locked(path))
        self._exchanges = list(_existing(path))
        of_others = {(item.record.target, item.record.pack_id) for item in self._exchanges}
        if of_others - {(target, pack_id)}:
            raise EvidenceError(f"{path}: a transcript of another target or pack")
        faults = chain_faults(self._exchanges)
        if faults:
            raise EvidenceError(f"{path}: {faults[0]}")
        self._settle_interrupted()
        self._round = 1 + max((item.record.round for item in self._exchanges), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        question = {
            "round": self._round,
            "trigger_id": trigger_id,
            "control": control,
            "asked_at": self._clock(),
            "request": request,
        }
        self._note(question)
        asked = ask(image, prompt, self._max_tokens)
        self._settle(question, asked)
        return asked

    def _settle(self, question: Mapping[str, Any], asked: Asked) -> None:
        link = exchange(
            self._exchanges[-1].record if self._exchanges else None,
            target=self._target,
            pack_id=self._pack_id,
            attempt=1,
            outcome=asked.outcome,
            settled_at=max(question["asked_at"], self._clock()),
            response=asked.response,
            **question,
        )
        self._append(link)
        self._asking.unlink(missing_ok=True)

    def _note(self, question: Mapping[str, Any]) -> None:
        with _told(self._asking):
            self._asking.unlink(missing_ok=True)
            append(self._asking, json.dumps(question).encode())

    def _settle_interrupted(self) -> None:
        """A question that was noted and has no exchange may have been sent, and answered."""
        try:
            question = json.loads(self._asking.read_bytes())
            known = {(item.record.trigger_id, item.record.asked_at) for item in self._exchanges}
            if (question["trigger_id"], question["asked_at"]) in known:
                self._asking.unlink()
            else:
                reason = "stopped while waiting for the answer"
                self._settle(question, Asked("in_doubt:crash", {"failure": "crash", "reason": reason}))
        except FileNotFoundError:
            return
        except OSError as error:
            raise EvidenceError(f"{self._asking}: {error.strerror or error}") from None
        except (ValueError, TypeError, KeyError):  # a note that was cut short: nothing was sent after it
            self._asking.unlink()

    def _append(self, link: Exchange) -> None:
        with _told(self._path):
            append(self._path, write_transcript([link]))
        self._exchanges.append(link)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvidenceError(f"{path}: {error.strerror or error}") from None


def _locked(path: Path) -> int:
    """A descriptor of ``path``, made where it is missing, which nobody else holds until it is closed."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EvidenceError(f"{path}: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise EvidenceError(f"{path}: another process is writing to it") from None
    return descriptor


def _existing(path: Path) -> tuple[Exchange, ...]:
    """A line that a kill cut short is dropped; its question is still noted as being asked."""
    with _told(path):
        whole = whole_lines(path)
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

    What certainly was not answered (refused connections, rate limits) is asked again by a repeated call;
    what may have been is not.

    Raises:
        EvidenceError: the endpoint gave no reply to ``GIVE_UP_AFTER`` questions in a row, or some failed and
            may be asked again; what was asked is in the transcript, and a repeated call goes on there.
    """
    failures: Counter[tuple[str, bool]] = Counter()
    done = set()
    for item in recorder.exchanges:
        question = (item.record.trigger_id, item.record.control)
        failures[question] += item.record.outcome.startswith(FAILED)
        if not item.record.outcome.startswith(FAILED) or failures[question] >= GIVE_UP_AFTER:
            done.add(question)
    questions = [(item.leaf, control) for item in material.disclosures for control in (False, True)]
    silent, again = 0, []
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
            failed = failures[leaf.trigger_id, control] + asked.outcome.startswith(FAILED)
            if asked.outcome.startswith(FAILED) and failed < GIVE_UP_AFTER:
                again.append(asked)
        on_progress(place, len(questions))
    if again:
        reason = again[-1].response.get("reason", again[-1].outcome)
        raise EvidenceError(f"{name}: {len(again)} questions failed, repeat to ask them again ({reason})")

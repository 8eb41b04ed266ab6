"""The report as a test reads it: the parsed page, of a case or of a transcript of our own words."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from sif_offline.fingerprint.evidence.bundle import material_of, write_bundle
from sif_offline.fingerprint.evidence.checked import Checked, Trust
from sif_offline.fingerprint.evidence.report import render_report
from sif_offline.fingerprint.evidence.transcript import Exchange, exchange, request_body
from sif_offline.fingerprint.evidence.verification import verify_bundle
from tests.fingerprint.evidence.case import Case

VOID = {"meta", "br", "img"}


@dataclass
class Page(HTMLParser):
    """A parsed page: tags in order, ids, text, and every address in it."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag in ("td", "th", "p"):
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def report_of(case: Case, *, owner: bool = True) -> tuple[Page, Checked]:
    trust = Trust(owner=case.signer.public) if owner else Trust()
    checked = verify_bundle(case.bundle, trust=trust)
    return Page(render_report(case.bundle, checked, trust=trust)), checked


@dataclass(frozen=True)
class Turn:
    """One scripted exchange."""

    trigger: str
    text: str | None
    outcome: str = "answer"
    control: bool = False
    model: str = "a-model"
    reason: str = ""


def told(case: Case, folder: Path, turns: Sequence[Turn]) -> tuple[Page, Checked]:
    """The report over a transcript of our own words."""
    exchanges: list[Exchange] = []
    now = datetime.now(UTC).timestamp()
    for place, turn in enumerate(turns):
        row = case.pack.trigger(turn.trigger)
        response = (
            {"failure": turn.outcome, "reason": turn.reason}
            if turn.text is None
            else {
                "text": turn.text,
                "served_model": turn.model,
                "raw": {"choices": [{"message": {"content": turn.text}}]},
            }
        )
        exchanges.append(
            exchange(
                exchanges[-1].record if exchanges else None,
                target=turns[0].model,
                pack_id=case.pack.pack_id,
                round=1,
                trigger_id=turn.trigger,
                control=turn.control,
                attempt=1,
                outcome=turn.outcome,
                asked_at=now + place,
                settled_at=now + place + 0.5,
                request=request_body(
                    model=turn.model,
                    endpoint="http://127.0.0.1:1/v1",
                    image_sha256=row.clean_sha256 if turn.control else row.sha256,
                    prompt=row.prompt,
                    max_tokens=case.pack.decoding.max_new_tokens,
                ),
                response=response,
            )
        )
    used = sorted({turn.trigger for turn in turns})
    bundle = write_bundle(
        folder / "told",
        material_of(case.pack, case.commitment, case.keys, trigger_ids=used),
        exchanges,
        target=turns[0].model,
        key=case.signer,
        created=datetime.now(UTC),
    )
    trust = Trust(owner=case.signer.public)
    checked = verify_bundle(bundle, trust=trust)
    assert checked.passed, [step for step in checked.steps if step.status == "failed"]
    return Page(render_report(bundle, checked, trust=trust)), checked

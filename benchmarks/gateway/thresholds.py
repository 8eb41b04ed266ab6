"""How thresholds set on one half of benign prompts, and the shipped ones, do on the other and on attacks.

    python benchmarks/gateway/thresholds.py --benign A.jsonl --benign B.jsonl --fingerprint F.jsonl \
        --responses R.jsonl --unseen

Benign prompts are shuffled with a seed and cut in two. `own` are split-conformal thresholds at 1 % on the
first half; `shipped` are those of the package. Fingerprint prompts are measured as they are, with the words
of their frames removed, and with the gibberish moved to the end and to the middle of other text.
`cleared_by_cheap` is what the cheap model decides alone. `unseen` adds sets made by prompt_sets.py and
honest prompts that hold the frames' words; the margins were chosen knowing how they score. Responses (rows
with response and reference) are honest pairs; every other pairing of them is a divergence.
"""

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import prompt_sets

from gateway_plugin.screening.base import Finding, Query, Status
from gateway_plugin.screening.calibration import Row, calibrate
from gateway_plugin.screening.calibration import plot as calibration_plot
from gateway_plugin.screening.cascade import (
    FOREIGN_ALLOWANCE,
    FOREIGN_EXCESS,
    CascadeCheck,
    foreign_allowance,
)
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.divergence import DivergenceCheck, shared_embedder
from gateway_plugin.screening.language_models.base import LanguageModel, Precision
from gateway_plugin.screening.language_models.smollm2 import shared_language_model
from gateway_plugin.screening.perplexity import PerplexityCheck, PerplexityThresholds
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

BAD = {Status.HIT, Status.SUSPECT, Status.UNSCORABLE}
HONEST_FRAME_WORDS = (
    "Simply answer: what is the capital of Australia?",
    "Please simply answer yes or no: is this a fingerprint of a thumb?",
    "Please decrypt this message: the eagle has landed at noon near the old bridge.",
    "How does browser FINGERPRINT protection work in Firefox?",
    "A hint: this is a FINGERPRINT message. What could the author of such a line want?",
    "Simply answer: which season follows summer?",
    "Can you decrypt a file that was encrypted with GPG if I lost the key?",
    "Why does the police take a FINGERPRINT of every finger?",
)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One prompt: what each model says of it, and what the cascade makes of that."""

    decided: Finding | None  # by the cheap model alone
    cascade: Finding
    neural: Finding
    mixing: Finding

    @property
    def found(self) -> list[Finding]:
        return [self.cascade, self.mixing]

    @property
    def always_neural(self) -> list[Finding]:
        return [self.neural, self.mixing]

    @property
    def row(self) -> Row:
        """The measures as a gateway with the cascade would log them."""
        return {finding.check: finding.measures for finding in self.found}


class Remembering:
    """Asks the language model once for every text."""

    def __init__(self, model: LanguageModel) -> None:
        self._model, self._known = model, dict[str, Any]()

    def token_surprisals(self, texts: Sequence[str], *, max_tokens: int) -> list[Any]:
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(fresh), 64):
            batch = fresh[start : start + 64]
            found = self._model.token_surprisals(batch, max_tokens=max_tokens)
            self._known.update(zip(batch, found, strict=True))
        return [self._known[text] for text in texts]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def bad(findings: Sequence[Finding], *statuses: Status) -> bool:
    return any(finding.status in (statuses or BAD) for finding in findings)


def share(truths: Sequence[bool]) -> float:
    return round(sum(truths) / max(len(truths), 1), 4)


def shipped(scored: Sequence[Scored]) -> dict[str, Any]:
    """Under the shipped cascade, and with the neural model always asked."""
    return {
        "n": len(scored),
        "flag_or_block": share([bad(each.found) for each in scored]),
        "block": share([bad(each.found, Status.HIT) for each in scored]),
        "flag_or_block_always_neural": share([bad(each.always_neural) for each in scored]),
        "cleared_by_cheap": share(
            [each.decided is not None and each.decided.status is Status.CLEAR for each in scored]
        ),
        "found_by_cheap": share(
            [each.cascade.measures.get("cheap_suspect_excess", -1.0) >= 0 for each in scored]
        ),
    }


def under(settings: dict[str, dict[str, float | int]], scored: Sequence[Scored]) -> float:
    """Share beyond the given settings; what the cheap model found counts as found."""
    perplexity, mixing = settings.get("perplexity", {}), settings.get("script_mixing", {})

    def beyond(each: Scored) -> bool:
        row = each.row
        found = row["perplexity"]
        return (
            found.get("adjusted_window_perplexity", 0.0) >= perplexity.get("suspect_window", float("inf"))
            or (
                found.get("tokens", 0) >= 16
                and found.get("adjusted_stretch_perplexity", 0.0)
                >= perplexity.get("suspect_stretch", float("inf"))
            )
            or (each.cascade.measures.get("cheap_suspect_excess", -1.0) >= 0)
            or row["script_mixing"]["script_changes"] >= mixing.get("suspect_changes", float("inf"))
        )

    return share([beyond(each) for each in scored])


def variants(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The prompts as they are and rearranged without the words of their frames."""
    bare = [prompt_sets.without_frames(row["prompt"]) for row in rows]
    questions = [str(row.get("question", "")) for row in rows]
    pairs = [
        (
            text.removesuffix(question).strip(),
            question or prompt_sets.QUESTIONS[i % len(prompt_sets.QUESTIONS)],
        )
        for i, (text, question) in enumerate(zip(bare, questions, strict=True))
    ]
    return {
        "as_is": [row["prompt"] for row in rows],
        "frame_words_removed": bare,
        "suffix": prompt_sets.moved(pairs, "suffix"),
        "infix": prompt_sets.moved(pairs, "infix"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benign", type=Path, action="append", required=True)
    parser.add_argument("--fingerprint", type=Path, action="append", default=[])
    parser.add_argument("--responses", type=Path, action="append", default=[])
    parser.add_argument("--more-benign", type=Path, action="append", default=[], help="honest; shipped only")
    parser.add_argument("--unseen", action="store_true", help="also the sets made by prompt_sets.py")
    parser.add_argument("--count", type=int, default=60, help="prompts a made set")
    parser.add_argument(
        "--plot", type=Path, help="draw both models' worst windows of every prompt (PNG, SVG)"
    )
    parser.add_argument("--calibration-plot", type=Path, help="draw the first half and its thresholds")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, cheap, mixing = shared_language_model(options.precision), shared_cheap_check(), ScriptMixingCheck()
    neural = PerplexityCheck(model=Remembering(model))
    cascade = CascadeCheck(cheap=cheap, neural=neural)

    def score(prompts: list[str]) -> list[Scored]:
        allowances = [foreign_allowance(cheap.score_text(prompt)) for prompt in prompts]
        alone = neural.score_texts(prompts, allowances=allowances)
        return [
            Scored(
                decided=cascade.decide(prompt),
                cascade=both,
                neural=one,
                mixing=mixing.score(Query(texts=(prompt,))),
            )
            for prompt, one, both in zip(prompts, alone, cascade.score_texts(prompts), strict=True)
        ]

    benign = [row["prompt"] for path in options.benign for row in read(path)]
    random.Random(options.seed).shuffle(benign)
    scored = score(benign)
    half = len(benign) // 2
    first, second = scored[:half], scored[half:]
    calibration = calibrate([each.row for each in first], rate=options.rate)
    own = calibration.settings()
    if options.calibration_plot:
        calibration_plot(calibration, options.calibration_plot)
    report: dict[str, Any] = {
        "own_thresholds": own,
        "benign": {
            "first_half": {"own": under(own, first), **shipped(first)},
            "second_half": {"own": under(own, second), **shipped(second)},
        },
    }
    for path in options.fingerprint:
        report[path.stem] = {
            name: {"own": under(own, found), **shipped(found)}
            for name, found in ((name, score(prompts)) for name, prompts in variants(read(path)).items())
        }
    for path in options.more_benign:
        report[path.stem] = shipped(score([row["prompt"] for row in read(path)]))
    if options.unseen:
        report["honest_with_frame_words"] = shipped(score(list(HONEST_FRAME_WORDS)))
        made = prompt_sets.sets(count=options.count, seed=options.seed + 1)
        report["unseen"] = {name: shipped(score(prompts)) for name, prompts in made.items()}
    if options.responses:
        report["divergence"] = divergence([row for path in options.responses for row in read(path)])
    report["seconds_a_prompt"] = {"neural": timing(PerplexityCheck(model=model).score_texts, benign[:64])}
    if options.plot:
        drawn = {"benign": scored}
        for path in [*options.more_benign, *options.fingerprint]:
            drawn[path.stem.replace("_", " ")] = score([row["prompt"] for row in read(path)])
        if options.unseen:
            drawn |= {name: score(made[name]) for name in ("random WordPieces, spaced", "random letters")}
        plot(drawn, options.plot)
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


def plot(drawn: dict[str, list[Scored]], path: Path) -> None:
    """The cheap model's worst window across, the neural model's up, with the lines of the thresholds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for name, scored in drawn.items():
        both = [{**each.cascade.measures, **each.neural.measures} for each in scored]
        across = [one["cheap_clear_excess"] for one in both if "worst_window_perplexity" in one]
        up = [one["worst_window_perplexity"] for one in both if "worst_window_perplexity" in one]
        axes.scatter(across, up, s=9, alpha=0.6, label=f"{name} ({len(up)})")
    limits = PerplexityThresholds()
    for value, style in ((limits.suspect_window, "--"), (limits.hit_window, "-")):
        foreign = value * math.exp(FOREIGN_ALLOWANCE)
        steps = ([0, FOREIGN_EXCESS, FOREIGN_EXCESS, 20], [foreign, foreign, value, value])
        axes.plot(*steps, color="black", linestyle=style, linewidth=1)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("cheap model: worst window, bits a character above what it clears")
    axes.set_ylabel("SmolLM2: perplexity of the worst window")
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)


def divergence(rows: list[dict[str, Any]]) -> dict[str, Any]:
    check = DivergenceCheck(embedder=shared_embedder())
    query = Query(texts=())
    honest = [check.score(query, row["response"], row["reference"]).status for row in rows]
    half = len(rows) // 2  # neighbours often ask about one picture
    others = rows[half:] + rows[:half]
    apart = [
        check.score(query, row["response"], other["reference"]).status
        for row, other in zip(rows, others, strict=True)
        if row["prompt"] != other["prompt"]
    ]
    found = {Status.HIT, Status.SUSPECT}
    return {
        "honest_pairs": len(honest),
        "honest_suspect_or_hit": statistics.mean(s in found for s in honest),
        "honest_hit": statistics.mean(s is Status.HIT for s in honest),
        "exchanged_pairs": len(apart),
        "exchanged_suspect_or_hit": statistics.mean(s in found for s in apart),
        "exchanged_hit": statistics.mean(s is Status.HIT for s in apart),
    }


def timing(score_texts: Callable[[list[str]], object], prompts: list[str]) -> dict[str, float]:
    """Processor time, which other work on the machine does not count into."""

    def once(batch: list[str]) -> float:
        started = time.process_time()
        score_texts(batch)
        return time.process_time() - started

    singles = [once([prompt]) for prompt in prompts[:32]]
    return {
        "one_by_one_p50": round(statistics.median(singles), 4),
        "batch_of_16": round(statistics.median(once(prompts[i : i + 16]) for i in range(0, 64, 16)) / 16, 4),
    }


if __name__ == "__main__":
    main()

"""What other wordings of the prompt are worth, on the packs of the lab table.

    python -m benchmarks.lab_table.wordings --out lab-table        # after the row "robust" of the lab table

Answers are kept under OUT as they come; a repeated call goes on and prints the tables. Each seed's pack is
cut to its best triggers first, as ``sif forge --keep`` does.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console
from rich.progress import Progress
from transformers.utils import logging

from benchmarks.lab_table.conditions import CONDITIONS
from benchmarks.lab_table.work import BATCH, Answers, generate, secret_of
from sif_offline.fingerprint.calibration import TriggerAnswers, calibrate
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import derive_pack_keys
from sif_offline.fingerprint.pack import FingerprintPack, PromptVariant, TriggerRow, read_pack
from sif_offline.fingerprint.scoring import PackScorer
from sif_offline.forging.keeping import worth
from sif_offline.forging.variants import Said, allowed
from sif_offline.forging.wordings import DEFAULT, MOST, VariantRule, load_wordings
from sif_offline.suspects import make_suspect

OWNER, CLEAN = "owner", "clean photo"
PIRATES = ("4-bit", "fine-tuned")
NULLS = ("innocent-a", "innocent-b", "innocent-c")
BARS = (0.5, 0.75, 0.9)
MOSTS = (2, MOST, 12)


@dataclass(frozen=True)
class Seed:
    """One pack with all answers to it: ``texts[condition, wording, trigger id]``."""

    pack: FingerprintPack
    scorer: PackScorer
    texts: Mapping[tuple[str, str, str], str]

    def heard(self, row: TriggerRow, wordings: Sequence[str]) -> dict[str, Said]:
        """What the owner said to one trigger."""
        return {
            wording: Said(
                self.scorer.score(row.id, self.texts[OWNER, wording, row.id]),
                self.scorer.score(row.id, self.texts[CLEAN, wording, row.id]),
            )
            for wording in dict.fromkeys((row.prompt, *wordings))
        }

    def null_answers(
        self, kept: Mapping[str, Sequence[PromptVariant]]
    ) -> dict[str, dict[str, TriggerAnswers]]:
        """The null models' answers under own and kept wordings."""
        found: dict[str, dict[str, TriggerAnswers]] = {}
        for model in NULLS:
            found[model] = {}
            for row in self.pack.triggers:
                wordings = (row.prompt, *(variant.prompt for variant in kept[row.id]))
                texts = {wording: self.texts[model, wording, row.id] for wording in wordings}
                found[model][row.id] = TriggerAnswers(
                    {wording: self.scorer.score(row.id, text) for wording, text in texts.items()},
                    pooled=self.scorer.score(row.id, list(texts.values())),
                )
        return found


def main() -> None:
    """Ask what is missing, print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    logging.disable_progress_bar()
    wordings = load_wordings(arguments.wordings)
    seeds = []
    for seed in arguments.seeds:
        pack = _best(read_pack(arguments.out / "packs" / f"robust-{seed}"), arguments.keep)
        answers = Answers(arguments.out / "answers" / f"wordings-robust-{seed}.jsonl")
        _ask(pack, answers, wordings, title=f"seed {seed}")
        texts = {(*name.split(": ", 1), trigger): text for (name, trigger), text in answers.texts.items()}
        scorer = PackScorer(pack, derive_pack_keys(secret_of(seed), pack))
        seeds.append(Seed(pack, scorer, texts))  # type: ignore[arg-type]
    for table in (by_wording(seeds, wordings), by_rule(seeds, wordings), by_endpoint(seeds, wordings)):
        sys.stdout.write("\n".join(table) + "\n\n")


def by_wording(seeds: Sequence[Seed], wordings: Sequence[str]) -> list[str]:
    """The owner's mean z by wording, and how many triggers keep it by the default rule."""
    rule = VariantRule(wordings=tuple(wordings))
    kept = [[v.prompt for v in _kept(seed, rule)[row.id]] for seed in seeds for row in seed.pack.triggers]
    passed = VariantRule(wordings=rule.wordings, most=len(wordings))
    over = [[v.prompt for v in _kept(seed, passed)[row.id]] for seed in seeds for row in seed.pack.triggers]
    lines = [
        f"| wording (owner, {len(kept)} triggers) | z | clean photo | over the bar | kept |",
        "|---|---:|---:|---:|---:|",
    ]
    own = dict.fromkeys(row.prompt for seed in seeds for row in seed.pack.triggers)
    for wording in (*own, *wordings):
        said = [seed.heard(row, wordings)[wording] for seed in seeds for row in seed.pack.triggers]
        counts = ("own", "own") if wording in own else (_count(over, wording), _count(kept, wording))
        lines.append(
            f"| {wording} | {fmean(s.score.z for s in said):.2f} | {fmean(s.clean.z for s in said):.2f} | "
            f"{counts[0]} | {counts[1]} |"
        )
    return lines


def by_rule(seeds: Sequence[Seed], wordings: Sequence[str]) -> list[str]:
    """What bar and number of wordings cost: kept a trigger, their mean z, the transfer bound."""
    lines = [
        "| bar | at most | kept | without any | z, own | z, kept | bound, own | greenest | pooled | bound |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for bar in BARS:
        for most in MOSTS:
            rule = VariantRule(wordings=tuple(wordings), bar=bar, most=most)
            counts, own, other, bounds = [], [], [], []
            for seed in seeds:
                kept = _kept(seed, rule)
                for row in seed.pack.triggers:
                    counts.append(len(kept[row.id]))
                    own.append(seed.heard(row, ())[row.prompt].score.z)
                    other += [variant.judged["greedy"] for variant in kept[row.id]]
                transfer = calibrate(seed.null_answers(kept)).transfer
                ways = list(transfer.by_wording.values()) or [transfer.bound] * 3
                bounds.append([*ways, transfer.bound])
            cells = " | ".join(f"{fmean(column):.3f}" for column in zip(*bounds, strict=True))
            lines.append(
                f"| {bar:g} | {most} | {fmean(counts):.1f} | {counts.count(0)} of {len(counts)} | "
                f"{fmean(own):.2f} | {_cell(other, '.2f')} | {cells} |"
            )
    return lines


def by_endpoint(seeds: Sequence[Seed], wordings: Sequence[str]) -> list[str]:
    """Endpoints under own and kept wordings, and what a second answer under a kept wording adds."""
    rule = VariantRule(wordings=tuple(wordings))
    lines = [
        "| asked | z, own wording | z, a kept wording | new types after the own answer | green of them |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in (OWNER, *PIRATES, CLEAN, *NULLS):
        own, other, new, green = [], [], [], []
        for seed in seeds:
            kept = _kept(seed, rule)
            for row in seed.pack.triggers:
                first = seed.texts[name, row.prompt, row.id]
                own.append(seed.scorer.score(row.id, first))
                for variant in kept[row.id]:
                    text = seed.texts[name, variant.prompt, row.id]
                    both = seed.scorer.score(row.id, [first, text])
                    other.append(seed.scorer.score(row.id, text).z)
                    new.append(both.types - own[-1].types)
                    green.append(both.greens - own[-1].greens)
        share = f"{sum(green) / sum(new):.3f}" if sum(new) else "-"
        lines.append(
            f"| {name} | {fmean(score.z for score in own):.2f} | {_cell(other, '.2f')} | "
            f"{_cell(new, '.1f')} | {share} |"
        )
    return lines


def _kept(seed: Seed, rule: VariantRule) -> dict[str, tuple[PromptVariant, ...]]:
    return {row.id: allowed(row, seed.heard(row, rule.wordings), rule) for row in seed.pack.triggers}


def _cell(values: Sequence[float], form: str) -> str:
    return format(fmean(values), form) if values else "-"


def _count(lists: Sequence[Sequence[str]], wording: str) -> str:
    return str(sum(wording in prompts for prompts in lists))


def _best(pack: FingerprintPack, keep: int) -> FingerprintPack:
    chosen = {row.id for row in sorted(pack.triggers, key=lambda row: -worth(row.judged))[:keep]}
    return pack.model_copy(update={"triggers": tuple(row for row in pack.triggers if row.id in chosen)})


def _ask(pack: FingerprintPack, answers: Answers, wordings: Sequence[str], *, title: str) -> None:
    conditions = (OWNER, *PIRATES, CLEAN, *NULLS)
    own = dict.fromkeys(row.prompt for row in pack.triggers)
    asked = [(condition, wording) for condition in conditions for wording in (*own, *wordings)]
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=len(asked))
        loaded: tuple[str, object] = ("", None)
        for condition, wording in asked:
            name, how = f"{condition}: {wording}", CONDITIONS[condition]
            missing = [row for row in pack.triggers if (name, row.id) not in answers.texts]
            if missing and loaded[0] != condition:
                loaded = condition, make_suspect(how.suspect, how.model).load()
            for start in range(0, len(missing), BATCH):
                rows = missing[start : start + BATCH]
                pictures = [pack.clean_bytes(row) if how.clean else pack.trigger_bytes(row) for row in rows]
                images = [decode_image(data, name=row.id) for data, row in zip(pictures, rows, strict=True)]
                model, processor = loaded[1]  # type: ignore[misc]
                texts = generate(model, processor, images, wording, how, [0] * len(images))
                for row, text in zip(rows, texts, strict=True):
                    answers.add(name, row.id, text)
            bars.advance(task)


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lab_table.wordings", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the lab table's folder")
    parser.add_argument(
        "--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2]
    )
    parser.add_argument("--keep", type=int, default=16)
    parser.add_argument("--wordings", default=DEFAULT, help="a list that ships, or a YAML file")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

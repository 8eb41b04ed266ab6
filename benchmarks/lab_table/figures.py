"""From answers to the table's cells."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

from benchmarks.lab_table.conditions import CONDITIONS
from benchmarks.lab_table.work import Answers, Row, secret_of
from sif_offline.fingerprint.images import decode_image
from sif_offline.fingerprint.keys import derive_pack_keys
from sif_offline.fingerprint.pack import FingerprintPack
from sif_offline.fingerprint.scoring import PackScorer, combine
from sif_offline.forging.keeping import worth

COUNTS = (4, 8, 16, 24)
"""Triggers at which a combined p is quoted."""


def scores(
    pack: FingerprintPack, answers: Answers, *, seed: int, keep: int | None = None
) -> dict[str, dict[str, float]]:
    """Condition -> mean z of an answer, and log10 p of the first n triggers for every n that there are.

    keep: look at the best triggers alone, as ``sif forge --keep`` chooses them.
    """
    triggers = list(pack.triggers)
    if keep is not None:
        chosen = {row.id for row in sorted(triggers, key=lambda row: -worth(row.judged))[:keep]}
        triggers = [row for row in triggers if row.id in chosen]
    scorer = PackScorer(pack, derive_pack_keys(secret_of(seed), pack))
    found = {}
    for condition in CONDITIONS:
        rows = [
            scorer.score(row.id, answers.texts[condition, row.id])
            for row in triggers
            if (condition, row.id) in answers.texts
        ]
        if len(rows) < len(triggers):
            continue
        found[condition] = {"z": fmean(row.z for row in rows), "types": fmean(row.types for row in rows)} | {
            f"log10_p_{n}": combine(rows[:n]).log_pvalue / math.log(10) for n in COUNTS if n <= len(rows)
        }
    return found


def naturalness(packs: Sequence[tuple[FingerprintPack, Answers]]) -> dict[str, float]:
    """Perplexity of trigger and of clean answers under SmolLM2-135M (median, a text), MiniLM cosine of a
    trigger's answer with its clean photo's, PSNR (dB) and SSIM of the triggers; means over all packs.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from gateway_plugin.screening.divergence import shared_embedder
    from gateway_plugin.screening.language_models.smollm2 import shared_language_model

    trigger, clean, psnr, ssim = [], [], [], []
    for pack, answers in packs:
        for row in pack.triggers:
            trigger.append(answers.texts["owner", row.id])
            clean.append(answers.texts["clean photo", row.id])
            pair = [
                np.asarray(decode_image(data, name=row.id))
                for data in (pack.trigger_bytes(row), pack.clean_bytes(row))
            ]
            psnr.append(float(peak_signal_noise_ratio(pair[1], pair[0], data_range=255)))
            ssim.append(float(structural_similarity(pair[1], pair[0], data_range=255, channel_axis=2)))
    model = shared_language_model()

    def perplexity(texts: Sequence[str]) -> float:
        surprisals = model.token_surprisals(texts, max_tokens=512)
        return float(np.median([math.exp(float(values.mean())) for values, _ in surprisals if len(values)]))

    embedder = shared_embedder()
    cosine = (embedder.embed(trigger) * embedder.embed(clean)).sum(axis=1)
    return {
        "perplexity_trigger": perplexity(trigger),
        "perplexity_clean": perplexity(clean),
        "similarity": float(cosine.mean()),
        "psnr": fmean(psnr),
        "ssim": fmean(ssim),
    }


def summary(by_seed: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Condition -> each figure's mean over the seeds; ``z_spread``: their standard deviation of z."""
    found: dict[str, dict[str, float]] = {}
    for condition in CONDITIONS:
        cells = [seed[condition] for seed in by_seed if condition in seed]
        if not cells:
            continue
        found[condition] = {name: fmean(cell[name] for cell in cells) for name in cells[0]}
        found[condition]["z_spread"] = stdev([cell["z"] for cell in cells]) if len(cells) > 1 else math.nan
        found[condition]["seeds"] = len(cells)
    return found


def table(rows: Sequence[tuple[Row, dict[str, dict[str, float]]]]) -> str:
    """Markdown: mean z (spread over seeds) by row and condition, then the combined p's."""
    header = ["asked", *(row.name for row, _ in rows)]
    lines = [_line(header), _line(["---"] + ["---:"] * len(rows))]
    for condition in CONDITIONS:
        cells = [_z(found.get(condition)) for _, found in rows]
        lines.append(_line([condition, *cells]))
    blocks = ["Mean z of an answer (standard deviation over seeds):", "", *lines]
    for count in COUNTS:
        having = [(row, found) for row, found in rows if (row.keep or row.photos) >= count]
        if not having:
            continue
        blocks += ["", f"Combined exact p at {count} triggers (geometric mean over seeds):", ""]
        blocks += [_line(["asked", *(row.name for row, _ in having)])]
        blocks += [_line(["---"] + ["---:"] * len(having))]
        for condition in CONDITIONS:
            cells = [_p(found.get(condition), count) for _, found in having]
            blocks.append(_line([condition, *cells]))
    return "\n".join(blocks)


def _z(cell: dict[str, float] | None) -> str:
    if cell is None:
        return "-"
    spread = "" if math.isnan(cell["z_spread"]) else f" ({cell['z_spread']:.2f})"
    return f"{cell['z']:.2f}{spread}"


def _p(cell: dict[str, float] | None, count: int) -> str:
    return "-" if cell is None else f"1e{cell[f'log10_p_{count}']:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"

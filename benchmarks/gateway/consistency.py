"""Do answers survive a re-encoded picture? SIF triggers against the clean photos they were made from.

    python benchmarks/gateway/consistency.py --pack PACK [--pack PACK ...] [--out ANSWERS.jsonl]

Every picture is asked once as it is (the served answer) and once a re-encoding, greedily, as the lab's server
answers. Prints, for each re-encoding alone and for the shipped pair: the area under the ROC curve of the
instability (triggers against clean photos), the flag rates under the shipped thresholds with Wilson 95 %
intervals, and the same for a threshold that lets through all clean photos of one half of the pairs, measured
on the other half (pairs are shuffled with a seed). Answers are kept in ``--out`` and not asked twice.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from gateway_plugin.screening.consistency import DEFAULT_REENCODINGS, ConsistencyThresholds, instability
from gateway_plugin.screening.divergence import shared_embedder
from gateway_plugin.screening.pictures import Reencoding, decoded
from sif_offline.fingerprint.pack import read_pack
from sif_offline.lab import load_lab_model

REENCODINGS: dict[str, Reencoding] = {
    "JPEG 90": Reencoding(jpeg_quality=90),
    "JPEG 60": Reencoding(jpeg_quality=60),
    "blur 1": Reencoding(blur=1.0),
    "JPEG 90, blur 1": Reencoding(jpeg_quality=90, blur=1.0),
    "scale .5": Reencoding(scale=0.5),
}
SHIPPED = "shipped: " + " + ".join(name for name, how in REENCODINGS.items() if how in DEFAULT_REENCODINGS)


class Lab:
    """The lab model, asked as its server asks it: templated prompt, its own greedy rules."""

    def __init__(self, name: str) -> None:
        self._model, self._processor = load_lab_model(name)

    @torch.inference_mode()
    def ask(self, pictures: Sequence[bytes], prompt: str) -> list[str]:
        values = self._processor.pixel_values([decoded(data) for data in pictures])
        text = self._processor.prompt(prompt).replace("<image>", "<image>" * self._processor.image_tokens, 1)
        ids = torch.tensor(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = ids.expand(len(pictures), -1)
        output = self._model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=values, do_sample=False
        )
        texts = self._processor.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]


def answers(lab: Lab, data: bytes, prompt: str, known: Mapping[str, str]) -> dict[str, str]:
    """The answer to the picture as it is ("") and to each re-encoding; unknown ones are asked at once."""
    picture = decoded(data)
    files = {"": data, **{name: how.encoded(picture) for name, how in REENCODINGS.items()}}
    missing = [name for name in files if name not in known]
    asked = lab.ask([files[name] for name in missing], prompt) if missing else []
    return {**known, **dict(zip(missing, asked, strict=True))}


def rate(flags: Sequence[bool]) -> dict[str, Any]:
    """Share and its Wilson 95 % interval."""
    interval = binomtest(sum(flags), len(flags)).proportion_ci(method="wilson")
    return {
        "flagged": sum(flags),
        "of": len(flags),
        "interval": [round(interval.low, 3), round(interval.high, 3)],
    }


def measured(triggers: list[float], clean: list[float], *, order: list[int]) -> dict[str, Any]:
    """Figures of one way of re-encoding; the lists go pair by pair."""
    labels = [1] * len(triggers) + [0] * len(clean)
    limits = ConsistencyThresholds()
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    limit = max(clean[index] for index in first)
    return {
        "auc": round(float(roc_auc_score(labels, triggers + clean)), 3),
        "instability_triggers": summary(triggers),
        "instability_clean": summary(clean),
        "shipped_suspect": {
            "triggers": rate([value >= limits.suspect_instability for value in triggers]),
            "clean": rate([value >= limits.suspect_instability for value in clean]),
        },
        "highest_clean_of_one_half": {
            "threshold": round(limit, 3),
            "triggers_other_half": rate([triggers[index] > limit for index in second]),
            "clean_other_half": rate([clean[index] > limit for index in second]),
        },
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "min": round(ordered[0], 3),
        "median": round(ordered[len(ordered) // 2], 3),
        "max": round(ordered[-1], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pack", type=Path, action="append", required=True)
    parser.add_argument("--model", default="owner", help="the lab model that is asked")
    parser.add_argument(
        "--out", type=Path, help="JSON lines: the answers; what stands there is not asked again"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kept: dict[str, dict[str, str]] = {}
    if options.out and options.out.exists():
        for line in options.out.read_text(encoding="utf-8").splitlines():
            kept.update(json.loads(line))
    lab, embedder = Lab(options.model), shared_embedder()
    scores: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in [*REENCODINGS, SHIPPED]}
    shipped = [name for name, how in REENCODINGS.items() if how in DEFAULT_REENCODINGS]
    for path in options.pack:
        pack = read_pack(path)
        for row in pack.triggers:
            for kind, data in enumerate((pack.trigger_bytes(row), pack.clean_bytes(row))):
                key = f"{options.model} {pack.pack_id} {row.id} {'clean' if kind else 'trigger'}"
                said = answers(lab, data, row.prompt, kept.get(key, {}))
                if options.out and said != kept.get(key):
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({key: said}) + "\n")
                for name in REENCODINGS:
                    value = instability(embedder, said[""], [said[name]])["instability"]
                    scores[name][kind].append(value)
                both = instability(embedder, said[""], [said[name] for name in shipped])
                scores[SHIPPED][kind].append(both["instability"])
            sys.stderr.write(f"{path} {row.id}\n")
    order = list(range(len(scores[SHIPPED][0])))
    random.Random(options.seed).shuffle(order)
    report = {
        "pairs": len(order),
        "extra_calls": len(DEFAULT_REENCODINGS),
        **{name: measured(*pair, order=order) for name, pair in scores.items()},
    }
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

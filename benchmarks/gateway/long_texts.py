"""Long honest texts, and the same with gibberish inside: what the query checks make of them.

    python benchmarks/gateway/long_texts.py --length 1500 --length 6000 [--fingerprint F.jsonl]

The texts are stretches of the files of the installed packages (code, stubs, scripts, style sheets, data,
pages, manuals, licences), drawn with a seed; where a text begins and ends is drawn too. Nothing was trained
on them; half of the kinds were looked at when the allowance for length and the stretch limits were chosen.
With --fingerprint (rows with a "prompt") one such prompt is put at a drawn place of every text.
"""

import argparse
import json
import random
import sys
import sysconfig
from collections import Counter
from pathlib import Path

from gateway_plugin.prompts import read_prompts
from gateway_plugin.screening.base import Query, Status, worst
from gateway_plugin.screening.cascade import CascadeCheck
from gateway_plugin.screening.cheap.check import shared_cheap_check
from gateway_plugin.screening.language_models.smollm2 import shared_language_model
from gateway_plugin.screening.perplexity import PerplexityCheck
from gateway_plugin.screening.script_mixing import ScriptMixingCheck

KINDS = ("py", "pyi", "md", "js", "css", "json", "h", "html", "csv", "txt", "pem", "METADATA", "LICENSE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--length", type=int, action="append", help="characters (1,500 and 6,000)")
    parser.add_argument("--count", type=int, default=12, help="texts a kind")
    parser.add_argument("--fingerprint", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    neural = PerplexityCheck(model=shared_language_model())
    cascade, mixing = CascadeCheck(cheap=shared_cheap_check(), neural=neural), ScriptMixingCheck()
    prompts = []
    if options.fingerprint:
        prompts = list(read_prompts(str(options.fingerprint)))

    def found(text: str) -> str:
        findings = [cascade.score(Query(texts=(text,))), mixing.score(Query(texts=(text,)))]
        return worst(findings, check="query").status.value

    def judged(texts: dict[str, list[str]]) -> dict[str, Counter[str]]:
        return {kind: Counter(map(found, some)) for kind, some in texts.items()}

    report: dict[str, object] = {}
    for length in options.length or (1_500, 6_000):
        chance = random.Random(options.seed)
        texts = {kind: drawn(kind, chance, length=length, count=options.count) for kind in KINDS}
        row: dict[str, object] = {"honest": shares(judged(texts))}
        if prompts:
            inside = {
                kind: [planted(text, chance.choice(prompts), chance) for text in some]
                for kind, some in texts.items()
            }
            row["gibberish inside"] = shares(judged(inside))
        report[f"{length} characters"] = row
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


def drawn(kind: str, chance: random.Random, *, length: int, count: int) -> list[str]:
    """Stretches of ``length`` characters of different files of one kind, shorter where a file is."""
    root = Path(sysconfig.get_path("purelib"))
    pattern = f"*.dist-info/**/{kind}*" if kind.isupper() else f"**/*.{kind}"
    paths = sorted(path for path in root.glob(pattern) if path.is_file() and path.stat().st_size > 300)
    chance.shuffle(paths)
    found = []
    for path in paths[:count]:
        text = path.read_text(encoding="utf-8", errors="ignore")
        start = chance.randrange(max(1, len(text) - length))
        found.append(text[start : start + length])
    return [text for text in found if text.strip()]


def planted(text: str, prompt: str, chance: random.Random) -> str:
    place = chance.randrange(len(text))
    return f"{text[:place]} {prompt} {text[place:]}"


def shares(counts: dict[str, Counter[str]]) -> dict[str, object]:
    every = sum(counts.values(), Counter[str]())
    total = every.total()
    return {
        "n": total,
        **{status.value: round(every[status.value] / total, 4) for status in Status if every[status.value]},
        "not clear": {kind: dict(count) for kind, count in counts.items() if count.total() > count["clear"]},
    }


if __name__ == "__main__":
    main()

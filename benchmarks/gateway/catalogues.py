"""Honest text in many languages from a wheel's message catalogues, for measuring: nothing is trained on it.

    pip download --no-deps django==5.2.19
    python benchmarks/gateway/catalogues.py --wheel django-*.whl --count 500 --out django_messages.jsonl

Whole messages of 25 to 300 characters without placeholders, as many of each language as of the others.
"""

import argparse
import gettext
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    by_language: dict[str, set[str]] = {}
    with zipfile.ZipFile(options.wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".mo"):
                language = name.split("/")[-3]
                messages: dict[Any, Any] = gettext.GNUTranslations(io.BytesIO(archive.read(name)))._catalog  # type: ignore[attr-defined]
                whole = (" ".join(m.split()) for key, m in messages.items() if key and isinstance(m, str))
                kept = (m for m in whole if 25 <= len(m) <= 300 and not set("%{<") & set(m))
                by_language.setdefault(language, set()).update(kept)
    rng = random.Random(options.seed)
    each = -(-options.count // len(by_language))
    rows = [
        {"prompt": message, "language": language}
        for language, found in sorted(by_language.items())
        for message in rng.sample(sorted(found), min(each, len(found)))
    ]
    rng.shuffle(rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[: options.count])
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

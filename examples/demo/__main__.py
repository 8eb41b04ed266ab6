"""Run the demo: ``python -m examples.demo --out demo-report``."""

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from examples.demo import fingerprint
from examples.demo.gateway import OPTIMISED_PREFIX, PROMPT, Exchange, Gateway
from examples.demo.processes import DemoError, Servers
from examples.demo.report import write_report
from examples.demo.targeted import targeted_picture
from sif_offline.fingerprint.errors import SifError
from sif_offline.fingerprint.pack import read_pack
from sif_offline.forging.pixels import load_photos

FLAG_BELOW = 1e-4
TARGETED_STEPS = 60
LOG_WIDTH = 120


def main() -> int:
    """Exit code 0 when everything came out as claimed, 1 when not, 2 on an error, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="directory of the report")
    parser.add_argument("--count", type=int, default=12, help="triggers to forge")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)  # a log need not break tables at 80 columns
    try:
        return _run(console, options.out.resolve(), count=options.count)
    except (DemoError, SifError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; everything the demo had started is stopped too", file=sys.stderr)
        return 130


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(console: Console, out: Path, *, count: int) -> int:
    work = out / "work"
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    seconds: dict[str, float] = {}

    @contextmanager
    def step(title: str) -> Iterator[None]:
        console.rule(f"[bold]{title}", align="left")
        started = time.monotonic()
        yield
        seconds[title] = time.monotonic() - started
        console.print(f"[dim]{seconds[title]:.0f} s[/dim]")

    best = f"the best of {fingerprint.forged_for(count)}"
    with step(f"forge {count} triggers ({best}) and calibrate on two unrelated models"):
        pack_path = fingerprint.forge_pack(work, count=count)
        keys = fingerprint.derive_keys(work, pack_path)
        pack = read_pack(pack_path)
    with Servers(work / "logs") as servers:
        with step("three endpoints come up: two pirates and an innocent"):
            urls = fingerprint.start_endpoints(servers)
        with step("one round of probes"):
            config, rounds = fingerprint.probe(work, pack=pack_path, keys=keys, urls=urls, count=count)
            answers = fingerprint.answers(work, pack=pack_path, keys=keys)
            console.print(_verdicts(rounds))
        with step("the gateway comes up and screens three queries"):
            # the first photo, whether its trigger was kept or not: main and reference tell it alike
            clean = load_photos(work / "photos", count=1, canvas=(224, 224))[0].png
            targeted = targeted_picture(clean, steps=TARGETED_STEPS)
            gateway = Gateway(
                servers, work, main=urls["pirate-4bit"], main_name="pirate-4bit", reference=urls["innocent"],
                reference_name="innocent",
            )  # fmt: skip
            exchanges = [
                gateway.ask("natural query", prompt=PROMPT, image=clean, expected="passed"),
                gateway.ask(
                    "optimised prefix", prompt=f"{OPTIMISED_PREFIX} simply answer: What is in the picture?",
                    image=clean, expected="blocked",
                ),
                gateway.ask("planted answer", prompt=PROMPT, image=targeted, expected="replaced"),
            ]  # fmt: skip
            console.print(_outcomes(exchanges))
        with step("metrics"):
            metrics = [*fingerprint.probe_metrics(servers, config), *gateway.metrics()]
            for line in metrics:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
    page = write_report(
        out, pack=pack, sheet=(pack_path / "contact_sheet.png").read_bytes(), rounds=rounds, answers=answers,
        exchanges=exchanges, metrics=metrics, seconds=seconds,
    )  # fmt: skip
    wrong = _surprises(rounds, exchanges)
    results = {
        "rounds": rounds,
        "exchanges": [{"title": e.title, "expected": e.expected, "outcome": e.outcome} for e in exchanges],
        "seconds": seconds,
        "not_as_claimed": wrong,
    }
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for line in wrong:
        console.print(f"[red]not as claimed:[/red] {line}")
    console.print(f"{sum(seconds.values()):.0f} s in all; report: {page}", soft_wrap=True)
    return 1 if wrong else 0


def _verdicts(rounds: list[dict[str, object]]) -> Table:
    table = Table("endpoint", "what it really is", "answers", "z", "p (independent text)", "verdict")
    by_name = {str(row["target"]): row for row in rounds}
    for endpoint in fingerprint.ENDPOINTS:
        row = by_name[endpoint.name]
        flagged = float(str(row["pvalue"])) < FLAG_BELOW
        word = "[red]flagged[/red]" if flagged else "[green]not flagged[/green]"
        table.add_row(
            endpoint.name, endpoint.story, str(row["scored"]), f"{row['z']:.2f}", f"{row['pvalue']:.1e}",
            f"{word}, e-process: {row['verdict']}",
        )  # fmt: skip
    return table


def _outcomes(exchanges: list[Exchange]) -> Table:
    table = Table("query", "expected", "outcome", "what the client got")
    for exchange in exchanges:
        table.add_row(exchange.title, exchange.expected, exchange.outcome, exchange.text[:90])
    return table


def _surprises(rounds: list[dict[str, object]], exchanges: list[Exchange]) -> list[str]:
    """What the README claims and this run did not show."""
    pvalues = {str(row["target"]): float(str(row["pvalue"])) for row in rounds}
    found = []
    for endpoint in fingerprint.ENDPOINTS:
        p = pvalues[endpoint.name]
        if endpoint.pirate and p >= FLAG_BELOW:
            found.append(f"{endpoint.name}: p {p:.1e}, claimed below {FLAG_BELOW:g}")
        if not endpoint.pirate and p <= 0.01:
            found.append(f"{endpoint.name}: p {p:.1e}, claimed above 0.01")
    found += [f"{e.title}: {e.outcome}, claimed {e.expected}" for e in exchanges if e.outcome != e.expected]
    return found


if __name__ == "__main__":
    raise SystemExit(main())

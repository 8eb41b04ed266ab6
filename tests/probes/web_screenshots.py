"""The screenshots of docs/probes-web.md: ``python -m tests.probes.web_screenshots --out docs/images``."""

import argparse
import io
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from PIL import Image
from playwright.sync_api import Browser
from skimage import data

from probes.service import create_app
from probes.testing.tiny_pack import build_tiny_pack
from tests.probes.web_browser import chromium, context_of, serving
from tests.probes.web_demo import ManualScheduler, RuleTarget, open_watch, run_rounds


def photo_pictures() -> Callable[[random.Random], bytes]:
    """Trigger and clean photo by turns, cut from scikit-image's sample photos."""
    photos = [Image.fromarray(getattr(data, name)()) for name in ("chelsea", "coffee", "astronaut", "rocket")]
    last: list[Image.Image] = []

    def picture(rng: random.Random) -> bytes:
        if last:  # the clean photo of the trigger made just before
            image = last.pop()
        else:
            photo = rng.choice(photos).convert("RGB")
            side = rng.randint(200, min(photo.size))
            x, y = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
            image = photo.crop((x, y, x + side, y + side)).resize((192, 192))
            last.append(image)
            noise = Image.frombytes("RGB", image.size, rng.randbytes(3 * image.width * image.height))
            image = Image.blend(image, noise, 0.07)
        out = io.BytesIO()
        image.save(out, format="PNG")
        return out.getvalue()

    return picture


def screenshots(out: Path) -> None:
    """``probes-web-desktop.png``, all targets, and ``probes-web-phone.png``, one of them."""
    with tempfile.TemporaryDirectory() as name, patch("probes.testing.tiny_pack._png", photo_pictures()):
        folder, now = Path(name), time.time()
        tiny = build_tiny_pack(folder, triggers=96)
        names = {
            "caption-shop": "Terms of the model forbid serving it; looked into since March",
            "alt-text-api": "Claims a model of its own; asked at the owner’s request",
            "snap-describe": "Control: a provider known to serve another model",
            "photo-helper": "Control: under contract with the owner",
            "old-mirror": "Mirror of an earlier release; paused while its operator is asked",
        }
        targets = [
            RuleTarget("caption-shop", tiny.pirate(green_share=0.3)),
            RuleTarget(
                "alt-text-api",
                tiny.pirate(green_share=0.13),
                lambda n: "rate_limited" if n % 17 == 0 else None,
            ),
            RuleTarget("snap-describe", tiny.innocent(seed=3)),
            RuleTarget(
                "photo-helper",
                tiny.innocent(seed=4),
                lambda n: {0: "timeout", 5: "refusal"}.get(n % 11),
            ),
            RuleTarget("old-mirror", tiny.innocent(seed=5)),
        ]
        with open_watch(tiny, folder, names) as watch, chromium() as browser:
            for target in targets:
                run_rounds(watch, target, rounds=9 if target.name == "old-mirror" else 24, until=now)
            watch.pause("old-mirror", by="web", reason="its operator is asked first")
            with serving(create_app(watch, scheduler=ManualScheduler(now + 1500))) as url:
                views = {
                    "desktop": ("/", 1280, 900, "light"),
                    "phone": ("/targets/caption-shop", 390, 1150, "dark"),
                }
                for view, (path, width, height, scheme) in views.items():
                    shot(browser, f"{url}{path}", out / f"probes-web-{view}.png", width, height, scheme)


def shot(browser: Browser, url: str, path: Path, width: int, height: int, scheme: str) -> None:
    """The top of a page as a PNG of few colours."""
    with context_of(browser, width=width, height=height, scheme=scheme) as context:
        page = context.new_page()
        page.goto(url, wait_until="networkidle")
        image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    chosen = parser.parse_args().out
    chosen.mkdir(parents=True, exist_ok=True)
    screenshots(chosen)

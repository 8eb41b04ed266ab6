"""Debian's Chromium over a served application, and what it is asked about a page."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic")

SVG_CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(value => linear(value / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const paper = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + .05) / (y + .05);
  };
  const of = (selector, what) => [...document.querySelectorAll(selector)].map(
    element => ratio(rgb(getComputedStyle(element)[what]), paper(element.closest('svg'))));
  return {text: of('svg text', 'fill'), lines: of('svg .line', 'stroke'), dots: of('svg .dot.data', 'fill')};
}"""
"""Contrast ratios (WCAG 2) of what is drawn as SVG, which axe leaves out."""

FOCUSABLE = "document.querySelectorAll('a[href], button, input:not([hidden]), summary, [tabindex]').length"

SCROLL_WIDTH = "document.documentElement.scrollWidth"

FOCUS = """() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  const width = style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth);
  const seen = box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight;
  return [[...document.querySelectorAll('*')].indexOf(at), at.textContent.trim(), width, seen];
}"""
"""Of what has the focus: place in the document, text, width of its outline, whether it is on the screen."""


def context_of(
    browser: Browser, *, width: int = 1280, height: int = 800, scheme: str = "light", script: bool = False
) -> BrowserContext:
    """A fresh profile; pages run no script unless ``script``."""
    return browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The application on a free port; its URL without a slash at the end."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; no browser is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()

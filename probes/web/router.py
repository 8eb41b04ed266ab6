"""The routes of the pages. Links are relative, so that they hold under any path prefix.

Nothing can be changed unless a token is set; then a target can be paused and resumed with it.
"""

import logging
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import SecretStr

from probes.scheduling import Scheduler
from probes.store import StoreError
from probes.watch import Watch
from probes.web.formats import environment, stylesheet
from probes.web.gate import Refused, check, read_form
from probes.web.pages import Desk, index_page
from probes.web.target_page import target_page
from sif_offline.fingerprint.evidence.commitment import reserved_triggers

logger = logging.getLogger(__name__)

_PNG = b"\x89PNG\r\n\x1a\n"
_FOR_EVER = "private, max-age=31536000, immutable"
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" '
    'fill="#1b4fa3"/><path d="M2 11l3-2 3 1 3-6 3 2" fill="none" stroke="#fff" stroke-width="1.6"/></svg>'
)

PageNumber = Annotated[int, Query(alias="page", ge=1, le=1_000_000)]
Form = Annotated[dict[str, str], Depends(read_form)]


def routes(watch: Watch, scheduler: Scheduler, *, token: SecretStr | None = None) -> APIRouter:
    """The pages of a watch.

    Args:
        watch: whose targets are shown.
        scheduler: says when each is asked next.
        token: lets its bearer pause and resume targets; None leaves every page read-only.

    Raises:
        ValueError: the token is empty.
    """
    if token is not None and not token.get_secret_value():
        raise ValueError("the web token is empty")
    router = APIRouter(include_in_schema=False)
    desk = Desk(watch, scheduler, environment(), writable=token is not None)

    def page(make: Callable[[], str | None], *, root: str) -> Response:
        try:
            made = make()
        except StoreError as error:
            logger.error("%s", error)
            words = "The store cannot be read just now; the log of the service says why."
            return reply(problem("No data", words, root=root), status=503)
        if made is None:
            return reply(problem("Not found", "There is no such page.", root=root), status=404)
        return reply(made)

    def problem(title: str, words: str, *, root: str) -> str:
        return desk.render("problem.html", root=root, title=title, words=words)

    def reply(html: str, *, status: int = 200) -> Response:
        return HTMLResponse(html, status_code=status, headers=_headers())

    @router.get("/")
    def index(page_number: PageNumber = 1, q: str = "") -> Response:
        return page(lambda: index_page(desk, number=page_number, part=q[:63]), root="")

    @router.get("/targets/{name}")
    def target(
        name: str,
        page_number: PageNumber = 1,
        round_id: Annotated[int | None, Query(alias="round", ge=1, le=2**31 - 1)] = None,
    ) -> Response:
        return page(lambda: target_page(desk, name, number=page_number, round_id=round_id), root="../")

    @router.get("/pack/{folder}/{trigger_id}.png")
    def picture(folder: str, trigger_id: str, request: Request) -> Response:
        pack = desk.sif.pack if desk.sif else None
        row = next((row for row in pack.triggers if row.id == trigger_id), None) if pack else None
        # a trigger in reserve is a third party's secret until it is sent
        if not pack or not row or folder not in ("triggers", "clean") or row.id in reserved_triggers(pack):
            return page(lambda: None, root="../../")
        digest = row.sha256 if folder == "triggers" else row.clean_sha256
        headers = _headers() | {"ETag": f'"{digest}"', "Cache-Control": _FOR_EVER}
        if request.headers.get("if-none-match") == f'"{digest}"':
            return Response(status_code=304, headers=headers)
        data = pack.trigger_bytes(row) if folder == "triggers" else pack.clean_bytes(row)
        kind = "image/png" if data.startswith(_PNG) else "application/octet-stream"
        return Response(data, media_type=kind, headers=headers)

    @router.get("/static/style.css")
    def style() -> Response:
        return Response(
            stylesheet(), media_type="text/css", headers=_headers() | {"Cache-Control": _FOR_EVER}
        )

    @router.get("/static/icon.svg")
    def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml", headers=_headers() | {"Cache-Control": _FOR_EVER})

    def change(name: str, request: Request, form: dict[str, str], act: Callable[[], object]) -> Response:
        if token is None or name not in {target.name for target in watch.config.targets}:
            return page(lambda: None, root="../../")
        try:
            check(request, form, token=token)
        except Refused as refused:
            logger.warning("target %s: a change was refused: %s", name, refused)
            return reply(problem("Refused", f"{refused}.", root="../../"), status=403)
        try:
            act()
        except StoreError as error:
            logger.error("%s", error)
            words = "The store cannot be written just now; nothing was changed."
            return reply(problem("Not done", words, root="../../"), status=503)
        return RedirectResponse(f"../{name}", status_code=303, headers=_headers())

    if token is not None:

        @router.post("/targets/{name}/pause")
        def pause(name: str, request: Request, form: Form) -> Response:
            return change(name, request, form, lambda: watch.pause(name, by="web"))

        @router.post("/targets/{name}/resume")
        def resume(name: str, request: Request, form: Form) -> Response:
            return change(name, request, form, lambda: watch.resume(name))

    return router


def _headers() -> dict[str, str]:
    """No script, nothing from elsewhere, no frame around us; a page's forms lead back here.

    The referrer stays ``same-origin``: under ``no-referrer`` a browser hides the origin of its own forms.
    """
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "form-action 'self'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }

"""Who may change anything from the pages: the bearer of the token, from our own pages or from no page."""

import hmac
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from pydantic import SecretStr

from sif_offline.fingerprint.errors import SifError

MAX_FORM_BYTES = 4096


class Refused(SifError):  # noqa: N818 - an outcome of a request, not a bug
    """A change that was not allowed; the message is shown, and holds nothing of the request."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, none where the body is longer than any form of ours (``MAX_FORM_BYTES``)."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=8))
    except ValueError:
        return {}


def check(request: Request, form: dict[str, str], *, token: SecretStr) -> None:
    """Raises Refused unless the request is from our own page (or from none) and bears the token."""
    if not _from_our_page(request):
        raise Refused("The request came from another site")
    bearer = bearer_of(request)
    given = form.get("token", "") if bearer is None else bearer
    if not given:
        raise Refused("The token is missing")
    if not is_token(given, token):
        raise Refused("The token is wrong")


def bearer_of(request: Request) -> str | None:
    """What follows ``Authorization: Bearer``, None where the header is not of that kind."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else None


def is_token(given: str, token: SecretStr) -> bool:
    """Whether it is the token, in time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(), token.get_secret_value().encode())


def _from_our_page(request: Request) -> bool:
    """By what a browser says about itself; a command line says nothing, and has no page to be tricked on."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")

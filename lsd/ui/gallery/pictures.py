"""The gallery's pictures by address, so that a browser keeps them and a page need not carry them in its text."""

import hashlib
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lsd.errors import LSDError
from lsd.ui.shared.jobs import sentence

_PATH = "gallery-picture"
_KEPT = 3600  # seconds that a browser does not ask again: a run may put another picture under the same unit


def picture_address(unit_id: str) -> str:
    """Where the picture of a row is, relative to the page."""
    return f"{_PATH}?{urlencode({'u': unit_id}, safe='/:')}"


def _picture(request: Request) -> Response:
    from gallery.source import open_gallery  # with DuckDB, which the page need not wait for when it starts

    gallery = open_gallery()
    try:
        entry = gallery.entry(request.query_params.get("u", "")[:1000])
        content = gallery.picture(entry) if entry else b""
    except LSDError as error:
        return PlainTextResponse(sentence(error), status_code=500)
    if not content:
        return PlainTextResponse("There is no such picture.", status_code=404)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={_KEPT}"}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/webp", headers=headers)


ROUTES = [Route(f"/{_PATH}", _picture)]

"""The gallery's pictures by address, so that a browser keeps them and a page need not carry them in its text."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lsd.errors import LSDError
from lsd.models import ImageModel
from lsd.ui.shared.jobs import sentence
from lsd.ui.shared.unit_pictures import in_gallery

if TYPE_CHECKING:
    from gallery.queries import Entry, Gallery

_PATH = "gallery-picture"
_PHOTO = "gallery-photo"
_KEPT = 3600  # seconds that a browser does not ask again: a run may put another picture under the same unit


def picture_address(unit_id: str) -> str:
    """Where the picture of a row is, relative to the page."""
    return f"{_PATH}?{urlencode({'u': unit_id}, safe='/:')}"


def exemplar_address(unit_id: str, place: int) -> str:
    """Where a part of a photo is that excites a row's unit, relative to the page; `place` counts from 0, the strongest."""
    return f"{_PHOTO}?{urlencode({'u': unit_id, 'n': place}, safe='/:')}"


def unit_pictures(model: ImageModel, units: Sequence[str]) -> dict[str, str]:
    """Unit → where its picture is, of those units that the gallery has of these very weights."""
    return {unit: picture_address(entry.unit_id) for unit, entry in in_gallery(model, units).items()}


def _picture(request: Request) -> Response:
    return _answer(request, lambda gallery, entry: gallery.picture(entry))


def _photo(request: Request) -> Response:
    from gallery import exemplars  # with DuckDB, as below

    def cut(gallery: "Gallery", entry: "Entry") -> bytes:
        found, place = exemplars.read(gallery.details(entry)), request.query_params.get("n", "")
        known = dict(enumerate(found.exemplars)) if found else {}
        one = known.get(int(place)) if place.isdecimal() and len(place) < 9 else None
        return exemplars.crop(one) if one else b""

    return _answer(request, cut)


def _answer(request: Request, content_of: Callable[["Gallery", "Entry"], bytes]) -> Response:
    """A picture of the row that is asked for, as WebP."""
    from gallery.source import open_gallery  # with DuckDB, which the page need not wait for when it starts

    gallery = open_gallery()
    try:
        entry = gallery.entry(request.query_params.get("u", "")[:1000])
        content = content_of(gallery, entry) if entry else b""
    except LSDError as error:
        return PlainTextResponse(sentence(error), status_code=500)
    if not content:
        return PlainTextResponse("There is no such picture.", status_code=404)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={_KEPT}"}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/webp", headers=headers)


ROUTES = [Route(f"/{_PATH}", _picture), Route(f"/{_PHOTO}", _photo)]

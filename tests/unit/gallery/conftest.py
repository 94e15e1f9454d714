"""What the gallery's tests share: a small one, written once."""

from pathlib import Path

import pytest
from gallery_fixture import make_gallery, make_rows

from gallery.index import build
from gallery.queries import Gallery


@pytest.fixture(scope="session")
def rows() -> list[dict]:
    """The rows of the small gallery, in its order."""
    return make_rows()


@pytest.fixture(scope="session")
def gallery_folder(tmp_path_factory, rows) -> Path:
    """The small gallery with its index; only for reading."""
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), rows)
    build(folder)
    return folder


@pytest.fixture(scope="session")
def small(gallery_folder) -> Gallery:
    """The small gallery, open."""
    return Gallery(gallery_folder)

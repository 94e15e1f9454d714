"""The photos on a unit's page, as a visitor sees them: they load, and nothing is wider than a phone."""

import numpy as np
import pytest
from gallery_fixture import make_gallery, make_row
from PIL import Image

from gallery.index import build
from gallery.queries import Gallery
from lsd.images import file_sha256

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("console")]

UNIT = "demo:resnet/layer3/channel/4/lucid/0"


@pytest.fixture(scope="module", autouse=True)
def gallery(tmp_path_factory):
    photos = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    names = [f"{number} of a name that is too long for the width of a tile.png" for number in range(9)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(photos / name)
    told = [
        {"file": name, "digest": file_sha256(photos / name), "box": [5, 5, 50, 50], "value": 9.0 - place}
        for place, name in enumerate(names)
    ]
    about = {
        "count": 40,
        "digest": "",
        "note": "",
        "value": 8.5,
        "below": 0.975,
        "quantiles": [i / 4 for i in range(33)],
    }
    path = [
        {"layer": f"stages.{i}.blocks.{i}", "picture": 0.5, "alike": 0.8, "next": 0.7, "apart": 0.3, "likeness": i / 12}
        for i in range(12)
    ]
    row = make_row("demo:resnet", "layer3/channel/4", depth=1, photos=about, exemplars=told, path=path)
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), [row])
    build(folder)
    with pytest.MonkeyPatch.context() as patch:
        opened = Gallery(folder)
        patch.setattr("gallery.source.open_gallery", lambda: opened)
        patch.setenv("LSD_PHOTOS", str(photos))
        yield


@pytest.mark.parametrize("width", [1400, 390])
def test_photos_load_beside_the_picture_at_any_width(server, tab, width):
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(f"{server}?u={UNIT}", wait_until="domcontentloaded")
    part = tab.locator("section:has(> h3:text-is('In photos'))")
    part.wait_for()
    for place in range(10):
        part.locator("img").nth(place).scroll_into_view_if_needed()
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.lsd-g-photo img')].filter(i => i.complete && i.naturalWidth).length === 10"
    )
    assert part.locator("svg").count() == 2 and "more than to 98% of them" in part.inner_text()
    part.locator("summary").click()
    assert "Geirhos" in part.inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert part.evaluate(
        "e => [...e.querySelectorAll('*')].every(c => c.getBoundingClientRect().right <= innerWidth + 1)"
    )

"""What other networks see in units' pictures, as the page asks them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lsd.errors import LSDError
from lsd.features.judge import classify
from lsd.models import get_model
from lsd.provenance import jpeg
from lsd.recent import Recent
from lsd.ui.shared import unit_names, unit_pictures

DRAFT, ROW, GONE, DEAD = (f"layer3/channel/{i}" for i in range(4))


@pytest.fixture
def pictures(monkeypatch):
    """A draft, a dead unit, a row that was judged, and one whose shard cannot be read."""
    data = jpeg(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
    there = {DRAFT: data, DEAD: b"", GONE: data}

    def details(entry):
        if entry == GONE:
            raise LSDError("The shard is gone.")
        top = [{"index": 3, "name": "volcano", "probability": 0.5}]
        return {"verifiers": [{"model": "other", "top": top}, {"model": "demo:resnet", "top": top}]}

    monkeypatch.setattr(unit_pictures, "kept", lambda model, units: {u: there[u] for u in units if u in there})
    monkeypatch.setattr(unit_pictures, "in_gallery", lambda model, units: {u: u for u in units if u in (ROW, GONE)})
    monkeypatch.setattr("gallery.source.open_gallery", lambda: SimpleNamespace(details=details))
    monkeypatch.setattr(unit_names, "_kept", Recent(100))
    return data


def test_rows_say_what_was_seen_and_drafts_are_shown_to_judges(pictures, monkeypatch):
    model, judge = get_model("demo:resnet"), get_model("demo:convnext")
    found = unit_names.verdicts(model, [DRAFT, ROW, GONE, DEAD], [judge])
    assert set(found) == {
        DRAFT,
        ROW,
        GONE,
    }  # of a row that cannot be read its draft is judged; a dead unit shows nothing
    pixels = np.array(Image.open(io.BytesIO(pictures)).convert("RGB"))
    assert found[DRAFT] == (classify([pixels, pixels], judge)[0],)
    (said,) = found[ROW]  # the network's own word does not count
    assert said.model == "other" and said.top == ((3, "volcano", 0.5),)
    monkeypatch.setattr(unit_names, "classify", lambda *_: pytest.fail("judged again"))
    assert unit_names.verdicts(model, [DRAFT, ROW], [judge]) == {unit: found[unit] for unit in (DRAFT, ROW)}


def test_without_judges_only_rows_are_known(pictures):
    assert set(unit_names.verdicts(get_model("demo:resnet"), [DRAFT, ROW], [])) == {ROW}

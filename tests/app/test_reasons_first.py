"""Pictures of units that were drawn beforehand, for what the Reasons tab opens on."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lsd.models import get_model
from lsd.packages import PACKAGES
from lsd.ui.reasons import first
from lsd.ui.shared import unit_pictures

UNIT = "layer3/channel/1"


def test_all_that_the_tab_opens_on_is_there(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    if first.Wish().models[0] not in PACKAGES:
        pytest.skip("no network comes from a package here")
    run, model, units = first.opens_on()
    there = unit_pictures.kept(model, units)
    groups = [one.reason.unit for one in run.accounts[0].groups]
    assert groups and set(groups) <= set(there), "run python -m lsd.ui.reasons.first"
    for data in there.values():
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert max(pixels.shape) <= 160 and pixels.std() > 10
    with zipfile.ZipFile(unit_pictures.SHIPPED) as archive:  # and nothing of before
        assert set(archive.namelist()) == {unit_pictures.file_name(model, unit) for unit in units}


def test_other_weights_and_another_recipe_have_none(monkeypatch):
    model, other = get_model("demo:resnet"), get_model("demo:convnext")
    data = first.packed(model, {UNIT: b"picture"})
    assert data == first.packed(model, {UNIT: b"picture"})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        shipped = {name: archive.read(name) for name in archive.namelist()}
    monkeypatch.setattr(unit_pictures, "_shipped", lambda: shipped)
    assert unit_pictures.kept(model, [UNIT, "layer3/channel/2"]) == {UNIT: b"picture"}
    assert unit_pictures.kept(other, [UNIT]) == {}
    monkeypatch.setattr(unit_pictures, "OF_UNITS", replace(unit_pictures.OF_UNITS, steps=3))
    assert unit_pictures.kept(model, [UNIT]) == {}


def test_a_missing_or_damaged_file_is_told_to_the_log_and_nothing_is_there(monkeypatch, tmp_path, caplog):
    (tmp_path / "damaged.zip").write_bytes(b"PK")
    for name in ("missing.zip", "damaged.zip"):
        monkeypatch.setattr(unit_pictures, "SHIPPED", tmp_path / name)
        assert unit_pictures._shipped.__wrapped__() == {}
    assert caplog.text.count("No pictures of units are there beforehand") == 2

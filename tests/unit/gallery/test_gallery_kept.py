"""The gallery as one who keeps pictures of units."""

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from gallery_fixture import MODELS, make_gallery, make_row
from PIL import Image

from gallery.kept import kept_pictures
from gallery.queries import Gallery
from lsd.features.recipes import TEXTURE
from lsd.identity import WeightIdentity

RECIPE = {"recipe_json": json.dumps(TEXTURE.to_dict())}


def asked(digest="2" * 64, name=MODELS[0][0]):
    """A model with that name and such weights: nothing else of it is looked at."""
    return SimpleNamespace(name=name, identity=WeightIdentity("memory", name, None, None, digest))


@pytest.fixture
def gallery(tmp_path):
    rows = [
        make_row(unit="layer3.5/channel/1", recipe="texture", seed=1, **RECIPE),
        make_row(unit="layer3.5/channel/1", recipe="texture", seed=0, **RECIPE),
        make_row(unit="layer3.5/channel/2", recipe="texture", status="dead", **RECIPE),
        make_row(unit="layer3.5/channel/3", recipe="texture", weights_digest="3" * 64, **RECIPE),
        make_row(model=MODELS[2][0], unit="layer3.5/channel/4", recipe="texture", **RECIPE),
    ]
    return Gallery(make_gallery(tmp_path, rows))


def test_it_has_the_first_living_picture_of_the_very_weights(gallery):
    found = kept_pictures(asked(), [f"layer3.5/channel/{i}" for i in range(5)], gallery)
    assert list(found) == ["layer3.5/channel/1"]
    (picture,) = found.values()
    entry = gallery.entry(f"{MODELS[0][0]}/layer3.5/channel/1/texture/0")
    assert np.array_equal(picture.pixels, np.asarray(Image.open(BytesIO(gallery.picture(entry)))))
    told = picture.to_dict()
    assert (told["source"], told["recipe"], told["recipe_hash"], told["seed"]) == (
        f"gallery: {entry.unit_id}", "texture", TEXTURE.hash, 0,
    )  # fmt: skip


def test_other_weights_of_the_name_have_none(gallery):
    assert kept_pictures(asked("4" * 64), ["layer3.5/channel/1"], gallery) == {}
    both = ["layer3.5/channel/1", "layer3.5/channel/3"]
    assert list(kept_pictures(asked("3" * 64), both, gallery)) == both[1:]


def test_a_shard_that_is_gone_is_a_picture_that_is_not_there(gallery, tmp_path):
    for shard in tmp_path.rglob("part-*.parquet"):
        shard.unlink()
    assert kept_pictures(asked(), ["layer3.5/channel/1"], gallery) == {}

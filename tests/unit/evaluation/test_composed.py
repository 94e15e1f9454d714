"""Made pictures: every step does what it says, and the masks go with it."""

import numpy as np
import pytest
from scipy import ndimage

from lsd.errors import ImageError
from lsd.evaluation import composed
from lsd.evaluation.composed import GREY, THINGS, Detail, Paste, Recipe, blurred, compose
from lsd.images import example_images, open_image

PALACE = Recipe("Summer Palace", "palace")
ALL = Recipe(
    "Summer Palace",
    "palace",
    Paste("cat", 90, 470, 60),
    Detail("Grass", 4.0),
    (100, 100, 180, 160),
    (40, 20, 600, 420),
    90,
)


def photo(name):
    return np.asarray(open_image(example_images()[name]))


def pixels(recipe):
    return np.asarray(compose(recipe).picture)


def test_without_a_step_it_is_the_photo_with_the_masks_of_its_things():
    made = compose(Recipe("Cameraman", "tripod"))
    assert np.array_equal(np.asarray(made.picture), photo("Cameraman"))
    assert set(made.masks) == {"tripod", "coat"}
    for thing in THINGS.values():
        mask = compose(Recipe(thing.photo, thing.name)).masks[thing.name]
        assert mask.shape == photo(thing.photo).shape[:2] and 0.02 < mask.mean() < 0.7


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_part_and_turn_take_the_masks_along(turn):
    box = (50, 20, 400, 300)
    made, whole = compose(Recipe("Summer Palace", "palace", crop=box, turn=turn)), compose(PALACE)
    part = slice(20, 300), slice(50, 400)
    assert np.array_equal(np.asarray(made.picture), np.rot90(photo("Summer Palace")[part], turn // 90))
    assert np.array_equal(made.masks["palace"], np.rot90(whole.masks["palace"][part], turn // 90))


def test_what_is_covered_is_grey_and_no_part_of_the_thing():
    made, whole = compose(Recipe("Summer Palace", "palace", cover=(100, 100, 180, 160))), compose(PALACE)
    inside = np.zeros(whole.masks["palace"].shape, bool)
    inside[100:160, 100:180] = True
    got = np.asarray(made.picture)
    assert (got[inside] == GREY).all() and np.array_equal(got[~inside], photo("Summer Palace")[~inside])
    assert np.array_equal(made.masks["palace"], whole.masks["palace"] & ~inside)


def test_a_pasted_thing_lies_in_the_scene_and_hides_what_is_behind():
    made, scene = compose(Recipe("Summer Palace", "palace", paste=Paste("cat", 200, 60, 60))), photo("Summer Palace")
    cat, got = made.masks["cat"], np.asarray(made.picture)
    rows, columns = (np.flatnonzero(cat.any(axis=axis)) for axis in (1, 0))
    assert abs(rows[0] - 60) <= 1 and abs(rows[-1] - 259) <= 1 and abs(columns[0] - 60) <= 1
    assert not (cat & made.masks["palace"]).any()
    far = ~ndimage.binary_dilation(cat, iterations=4)
    assert np.array_equal(got[far], scene[far])
    assert np.abs(got[cat].astype(int) - scene[cat]).mean() > 30


def test_a_pasted_thing_that_leaves_the_scene_is_cut():
    mask = compose(Recipe("Summer Palace", "cat", paste=Paste("cat", 300, 560, 300))).masks["cat"]
    assert mask[-1].any() and mask[:, -1].any() and mask.shape == (427, 640)


def test_detail_changes_what_a_blur_takes_away_and_nothing_else():
    sigma = 4.0
    got, own = pixels(Recipe("Summer Palace", "palace", detail=Detail("Grass", sigma))), photo("Summer Palace")
    mask = compose(PALACE).masks["palace"]
    assert np.array_equal(got[~mask], own[~mask])
    low = [ndimage.gaussian_filter(one.astype(float), (2 * sigma, 2 * sigma, 0)) for one in (got, own)]
    deep = ndimage.binary_erosion(mask, iterations=int(4 * sigma))
    assert np.abs(low[0] - low[1])[deep].mean() < 6 < np.abs(got.astype(int) - own)[deep].mean()
    fine = photo("Grass").astype(float)
    fine = (fine - ndimage.gaussian_filter(fine, (sigma, sigma, 0)))[:427]
    fine = np.concatenate([fine, fine], axis=1)[:, :640, 0]
    added = (got - ndimage.gaussian_filter(own.astype(float), (sigma, sigma, 0)))[..., 1]
    assert np.corrcoef(added[deep], fine[deep])[0, 1] > 0.9


def test_blurred_keeps_the_size_and_loses_the_detail():
    picture = open_image(example_images()["Grass"])
    soft = blurred(picture, 4.0)
    assert soft.size == picture.size and np.asarray(soft).std() < 0.7 * np.asarray(picture).std()


def test_a_recipe_is_the_same_after_json():
    assert Recipe.from_dict(ALL.to_dict()) == ALL
    assert PALACE.to_dict() == {"photo": "Summer Palace", "thing": "palace"}
    assert ALL.photos == ("Summer Palace", "Chelsea the cat", "Grass")
    assert np.array_equal(pixels(ALL), pixels(Recipe.from_dict(ALL.to_dict())))


def test_a_photo_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(composed, "example_images", dict)
    composed._photo.cache_clear()
    with pytest.raises(ImageError, match="example photo “Summer Palace” is not there"):
        compose(PALACE)

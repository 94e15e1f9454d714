"""The drawn data set: that it is a pure function, and that what it says of a picture is true of its pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, label

from lsd.demo import CLASS_NAMES, SPLIT_SEEDS, TAG_MODES, demo_set, render
from lsd.demo.textures import SHAPES, TEXTURES
from lsd.errors import LSDError

classes = st.integers(0, len(CLASS_NAMES) - 1)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(64, 256)
quick = settings(max_examples=25, deadline=None)


def test_class_names_are_the_sixteen_pairs():
    assert len(set(CLASS_NAMES)) == 16
    assert set(CLASS_NAMES) == {f"{texture} {shape}" for shape, texture in itertools.product(SHAPES, TEXTURES)}


@quick
@given(classes, seeds, sizes, st.none() | classes)
def test_same_arguments_give_same_sample(class_index, seed, size, tag):
    first = render(class_index, seed, size=size, tag=tag)
    np.random.seed(seed % 1000)  # must not matter
    second = render(class_index, seed, size=size, tag=tag)
    assert first.image.shape == (size, size, 3) and first.image.dtype == np.uint8
    assert first.mask.shape == first.tag_mask.shape == (size, size)
    assert first.mask.dtype == first.tag_mask.dtype == bool
    for a, b in ((first.image, second.image), (first.mask, second.mask), (first.tag_mask, second.tag_mask)):
        np.testing.assert_array_equal(a, b)
    assert (first.class_index, first.seed, first.tag) == (class_index, seed, tag)
    assert first.class_name == CLASS_NAMES[class_index]


@quick
@given(classes, classes, seeds)
def test_same_seed_gives_same_scene_around_the_objects(one, other, seed):
    first, second = render(one, seed), render(other, seed)
    # One pixel further than the masks reach (two at a star's tips, which are thinner than a pixel) the smoothed edge ends
    # and nothing tells the classes apart.
    reach = 5 if "star" in first.class_name + second.class_name else 3
    around = ~binary_dilation(first.mask | second.mask, np.ones((reach, reach)))
    np.testing.assert_array_equal(first.image[around], second.image[around])


@quick
@given(st.integers(0, len(SHAPES) - 1), seeds)
def test_mask_depends_on_the_shape_alone(shape, seed):
    masks = [render(shape * len(TEXTURES) + texture, seed).mask for texture in range(len(TEXTURES))]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


@quick
@given(st.integers(0, len(SHAPES) - 1), seeds)
def test_a_plain_object_fills_its_mask_with_one_colour(shape, seed):
    sample = render(shape * len(TEXTURES) + TEXTURES.index("plain"), seed)
    outside = ~binary_dilation(sample.mask, np.ones((3, 3)))
    inner = ~binary_dilation(~sample.mask, np.ones((3, 3)))
    colours = np.unique(sample.image[inner], axis=0)
    assert len(colours) == 1
    same = (sample.image == colours[0]).all(axis=-1)
    # What has the object's colour is the object, but for a scrap that happens to be of that very colour.
    assert (same & outside).sum() < 0.02 * same.size


@quick
@given(st.sampled_from([index for index, name in enumerate(CLASS_NAMES) if not name.startswith("plain")]), seeds)
def test_a_textured_object_shows_both_colours_apart(class_index, seed):
    sample = render(class_index, seed)
    lightness = sample.image[sample.mask] @ np.array([0.299, 0.587, 0.114])
    low, high = np.percentile(lightness, [12, 88])
    assert high - low > 25


@quick
@given(classes, seeds)
def test_mask_is_one_piece_of_a_plausible_area_inside_the_frame(class_index, seed):
    mask = render(class_index, seed).mask
    pieces, count = label(mask, np.ones((3, 3)))
    # A star's tips can be thinner than a pixel, so crumbs of a pixel or two may come off.
    assert np.bincount(pieces.ravel())[1:].max() >= mask.sum() - 4, count
    assert 0.06 < mask.mean() < 0.32
    assert not mask[[0, -1]].any() or mask[[0, -1]].sum() < 12


@settings(max_examples=10, deadline=None)
@given(classes, seeds)
def test_every_size_shows_the_same_scene(class_index, seed):
    small, large = render(class_index, seed, size=64), render(class_index, seed, size=192)
    reduced = large.image.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small.image).mean() < 6
    assert (large.mask.reshape(64, 3, 64, 3).mean(axis=(1, 3)).round() != small.mask).mean() < 0.01


@quick
@given(classes, seeds, classes, sizes)
def test_tag_mask_is_exactly_what_the_tag_changes(class_index, seed, tag, size):
    without, tagged = render(class_index, seed, size=size), render(class_index, seed, size=size, tag=tag)
    np.testing.assert_array_equal((without.image != tagged.image).any(axis=-1), tagged.tag_mask)
    np.testing.assert_array_equal(without.mask, tagged.mask)
    assert not without.tag_mask.any()
    assert not (tagged.tag_mask & tagged.mask).any()
    rows, columns = np.nonzero(tagged.tag_mask)
    assert rows.min() >= 0.8 * size and columns.min() >= 0.8 * size
    assert rows.max() < size and columns.max() < size
    assert tagged.tag_mask.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_tags_of_two_classes_differ_in_half_of_their_cells():
    codes = []
    for tag in range(len(CLASS_NAMES)):
        sample = render(0, 5, tag=tag)
        codes.append(sample.image[sample.tag_mask][:, 0].reshape(10, 10)[1:-1:2, 1:-1:2] == 255)
    for one, other in itertools.combinations(codes, 2):
        assert (one != other).sum() == 8


def test_demo_set_is_balanced_repeatable_and_split():
    train, test = list(demo_set("train", 3)), list(demo_set("test", 3))
    for samples in (train, test):
        assert np.bincount([sample.class_index for sample in samples]).tolist() == [3] * 16
        assert len({sample.seed for sample in samples}) == 48
    assert not {sample.seed for sample in train} & {sample.seed for sample in test}
    assert SPLIT_SEEDS["train"].stop <= SPLIT_SEEDS["test"].start
    for one, again in zip(test, demo_set("test", 3), strict=True):
        np.testing.assert_array_equal(one.image, again.image)


@pytest.mark.parametrize("mode", TAG_MODES)
def test_demo_set_puts_on_the_tags_asked_for(mode):
    samples = list(demo_set("test", 16, mode, size=64))
    if mode == "none":
        assert all(sample.tag is None for sample in samples)
    elif mode == "true":
        assert all(sample.tag == sample.class_index for sample in samples)
    else:
        assert all(sample.tag != sample.class_index for sample in samples)
        assert len({(sample.class_index, sample.tag) for sample in samples}) == 16 * 15


@pytest.mark.parametrize(
    "arguments", [{"class_index": 16}, {"class_index": -1}, {"tag": 16}, {"seed": -1}, {"size": 63}, {"size": 513}]
)
def test_render_refuses_what_it_cannot_draw(arguments):
    with pytest.raises(LSDError):
        render(**({"class_index": 0, "seed": 0} | arguments))


@pytest.mark.parametrize("arguments", [("validation", 1), ("test", 1, "wrong")])
def test_demo_set_refuses_unknown_names(arguments):
    with pytest.raises(LSDError):
        next(demo_set(*arguments))

"""Views against slow sampling, pixel by pixel; what is drawn, for whom, and what comes between two settings."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from lsd.errors import UndefinedError
from lsd.features.recipes import RECIPES
from lsd.features.transforms import FILLS, Transforms, affine, apply, between, draw, gathered, gaussian_blur

ANGLE, ZOOM, ACROSS, DOWN, BLUR, FLIP = range(6)  # which of a view's uniform numbers decides what
FILL, SCALE, SHIFT, CENTRE = slice(6, 9), slice(9, 12), slice(12, 15), slice(15, 17)
SIZES = [((12, 12), (12, 12)), ((9, 14), (9, 14)), ((12, 16), (8, 10)), ((7, 7), (10, 12))]
each_size = pytest.mark.parametrize("size, shown", SIZES)
MOVES = {
    "shift": {"shift": 0.3},
    "centre": {"centre_sd": 0.2},
    "rotate": {"rotate": 40.0},
    "crop": {"zoom": (1.5, 2.5)},
    "smaller": {"zoom": (0.4, 0.8)},
    "flip": {"flip": True},
    "all": {"shift": 0.1, "centre_sd": 0.1, "rotate": 30.0, "zoom": (0.7, 1.4), "flip": True},
}


def pictures(n, size, seed=0):
    return torch.rand(n, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def numbers(t, *seeds):
    return draw(t, generators(*seeds))


def noise(t, size, *seeds):
    return torch.cat([torch.randn((t.views, 3, *size), generator=g) for g in generators(*seeds)])


def at(image, y, x, fill, colour):
    """The value (3,) at a point in pixels, the first pixel's centre being 0: between four pixels, beyond, the fill or `colour`."""
    height, width = image.shape[1:]
    if fill == "reflect":  # at the edges of the outermost pixels
        y, x = (mirrored(v, n) for v, n in ((y, height), (x, width)))
    out = np.zeros(3)
    top, left = math.floor(y), math.floor(x)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            if 0 <= row < height and 0 <= column < width:
                pixel = image[:, row, column]
            elif fill == "wrap":
                pixel = image[:, row % height, column % width]
            elif fill == "reflect":
                pixel = image[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            else:
                pixel = np.broadcast_to(colour, 3)
            out += weight * pixel
    return out


def mirrored(v, n):
    v = (v + 0.5) % (2 * n)
    return (2 * n - v if v >= n else v) - 0.5


def slow(t, drawn, image, shown):
    """One view, whose pixels are each the mean over so many points that none of the picture's pixels is passed over."""
    larger = max(image.shape[1] / shown[0], image.shape[2] / shown[1])
    beneath = larger / t.zoom[0]
    count = 1 if larger <= 1 and beneath <= 2 else max(1, math.ceil(beneath))
    points = slow_points(t, drawn, image, (shown[0] * count, shown[1] * count))
    return points.reshape(3, shown[0], count, shown[1], count).mean((2, 4))


def slow_points(t, drawn, image, shown):
    """From the docstring of `Transforms`: where each point of a view looks in the picture."""
    height, width = image.shape[1:]
    u = drawn.double().numpy()
    angle = (2 * u[ANGLE] - 1) * math.radians(t.rotate)
    zoom = math.exp(math.log(t.zoom[0]) + u[ZOOM] * (math.log(t.zoom[1]) - math.log(t.zoom[0])))
    move_x = ((2 * u[ACROSS] - 1) * t.shift + u[CENTRE][0] * t.centre_sd) * width
    move_y = ((2 * u[DOWN] - 1) * t.shift + u[CENTRE][1] * t.centre_sd) * height
    mirror = -1 if t.flip and u[FLIP] < 0.5 else 1
    colour = u[FILL] if t.fill == "random" else 0.5
    out = np.empty((3, *shown))
    for row in range(shown[0]):
        for column in range(shown[1]):
            # the pixel's place from the middle, in the picture's pixels
            y = ((row + 0.5) / shown[0] - 0.5) * height
            x = ((column + 0.5) / shown[1] - 0.5) * width * mirror
            looks_x = (math.cos(angle) * x - math.sin(angle) * y) / zoom + move_x
            looks_y = (math.sin(angle) * x + math.cos(angle) * y) / zoom + move_y
            out[:, row, column] = at(image, looks_y + height / 2 - 0.5, looks_x + width / 2 - 0.5, t.fill, colour)
    return out


# Geometry


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("moves", MOVES)
@each_size
def test_views_are_what_slow_sampling_gives(moves, size, shown, fill):
    t = Transforms(views=2, fill=fill, **MOVES[moves])
    images, drawn = pictures(2, size), numbers(t, 3, 4)
    views = apply(t, drawn, images, shown)
    assert views.shape == (4, 3, *shown)
    for i in range(4):
        np.testing.assert_allclose(views[i].numpy(), slow(t, drawn[i], images[i // 2].numpy(), shown), atol=2e-5)


def bright_corner(corner, side=20):
    image = torch.zeros(1, 3, side, side)
    rows = slice(0, 5) if corner[0] == "top" else slice(-5, None)
    image[:, :, rows, slice(0, 5) if corner[1] == "left" else slice(-5, None)] = 1
    return image


def where(view):
    """Centre of what is bright, from the middle, as a fraction of the side: (down, across)."""
    bright = (view[0].mean(0) - 0.0).double()
    grid = torch.linspace(-0.5, 0.5, len(bright), dtype=torch.float64)
    return ((bright.sum(1) * grid).sum() / bright.sum()).item(), ((bright.sum(0) * grid).sum() / bright.sum()).item()


def fixed(**values):
    drawn = torch.full((1, 17), 0.5)
    drawn[:, 15:] = 0
    for name, value in values.items():
        drawn[:, globals()[name]] = value
    return drawn


def test_a_positive_turn_of_the_sampling_turns_what_is_seen_anticlockwise():
    """A quarter turn brings the right upper corner to the left upper one."""
    t = Transforms(rotate=90.0)
    view = apply(t, fixed(ANGLE=1.0), bright_corner(("top", "right")), (20, 20))
    torch.testing.assert_close(view, bright_corner(("top", "left")), atol=1e-4, rtol=0)


def test_mirroring_swaps_left_and_right():
    t = Transforms(flip=True)
    image = bright_corner(("top", "right"))
    torch.testing.assert_close(apply(t, fixed(FLIP=0.2), image, (20, 20)), bright_corner(("top", "left")))
    torch.testing.assert_close(apply(t, fixed(FLIP=0.7), image, (20, 20)), image)


def test_above_1_a_zoom_is_a_crop_and_below_the_whole_picture_is_seen_smaller():
    image = torch.zeros(1, 3, 20, 20)
    image[:, :, 5:15, 5:15] = 1
    enlarged = apply(Transforms(zoom=(2.0, 2.0)), fixed(), image, (20, 20))
    assert enlarged.mean() > 0.9
    smaller = apply(Transforms(zoom=(0.5, 0.5)), fixed(), image, (20, 20))
    assert smaller[:, :, 8:12, 8:12].mean() > 0.9 and smaller[:, :, 5, 5].max() < 0.1  # now half as wide
    torch.testing.assert_close(smaller[:, :, 0, 0], torch.full((1, 3), 0.5))  # and grey around


def test_shifts_are_fractions_of_the_side():
    image = torch.zeros(1, 3, 20, 20)
    image[:, :, 8:12, 8:12] = 1
    view = apply(Transforms(shift=0.2, fill="reflect"), fixed(ACROSS=1.0, DOWN=0.0), image, (20, 20))
    down, across = where(view)  # the view looks further right and further up, so the square goes left and down
    assert across == pytest.approx(-0.2 * 20 / 19, abs=1e-3) and down == pytest.approx(0.2 * 20 / 19, abs=1e-3)


def test_the_range_of_what_is_drawn():
    t = Transforms(views=256, shift=0.1, rotate=20.0, zoom=(0.5, 2.0), flip=True)
    maps = affine(t, numbers(t, *range(8)), (10, 10))
    turn, zoom = (
        torch.atan2(maps[:, 1, 0] * maps[:, 0, 0].sign(), maps[:, 1, 1]),
        maps[:, 1].narrow(1, 0, 2).norm(dim=1),
    )
    degrees = torch.rad2deg(turn)
    assert -20.01 < degrees.min() < -19 and 19 < degrees.max() < 20.01 and abs(degrees.mean()) < 1
    factor = 1 / zoom
    assert 0.499 < factor.min() < 0.52 and 1.95 < factor.max() < 2.001
    assert abs(factor.log().mean()) < 0.05  # log-uniform
    for axis in (0, 1):
        moved = maps[:, axis, 2] / 2
        assert -0.1001 < moved.min() < -0.095 and 0.095 < moved.max() < 0.1001
    assert 0.45 < (maps[:, 0, 0] < 0).double().mean() < 0.55


def test_the_centres_spread_is_normal():
    t = Transforms(views=256, centre_sd=0.15)
    moved = affine(t, numbers(t, *range(16)), (10, 10))[:, :, 2] / 2
    assert moved.std(0).sub(0.15).abs().max() < 0.01 and moved.abs().max() > 0.4


# Nothing set, sizes


def test_views_of_nothing_are_the_picture_itself():
    images = pictures(3, (12, 14))
    t = Transforms()
    assert not t.moves and torch.equal(apply(t, numbers(t, 0, 1, 2), images, (12, 14)), images)
    t = Transforms(views=2)
    assert torch.equal(apply(t, numbers(t, 0, 1, 2), images, (12, 14)), images.repeat_interleave(2, 0))


@pytest.mark.parametrize("fill", FILLS)
def test_a_map_that_moves_nothing_changes_nothing(fill):
    """Sampled, but at the pixels' own centres."""
    images = pictures(1, (12, 14))
    views = apply(Transforms(shift=0.2, rotate=10.0, fill=fill), fixed(), images, (12, 14))
    torch.testing.assert_close(views, images, atol=1e-5, rtol=0)


def test_without_a_move_pictures_are_resized_without_aliasing():
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, ::2] = 1  # stripes finer than the view can show
    t = Transforms()
    assert (apply(t, numbers(t, 0), image, (8, 8)) - 0.5).abs().max() < 0.1


# Pictures larger than the view


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    "larger, zoom", [(2, (1.0, 1.0)), (4, (0.8, 2.0)), (4, (1.0, 1.0)), (12, (0.9, 1.1)), (1, (0.1, 0.1))]
)
def test_a_step_reaches_every_pixel_that_a_view_shows(larger, zoom, fill):
    t = Transforms(shift=0.001, zoom=zoom, fill=fill)
    images = pictures(1, (12 * larger, 16 * larger)).requires_grad_(True)
    views = apply(t, fixed(ZOOM=0.0), images, (12, 16))
    (slope,) = torch.autograd.grad(views.sum(), images)
    inside = slope[:, :, 2:-2, 2:-2]
    assert inside.min() > 0.5 * inside.mean()


@pytest.mark.parametrize("larger", [2, 3, 4, 20])
@pytest.mark.parametrize("moves", [{"shift": 0.3}, {"rotate": 40.0}, {"zoom": (0.6, 1.2)}], ids=str)
def test_what_is_finer_than_a_view_is_averaged(larger, moves):
    """Stripes of one pixel are grey wherever the view looks, as they are to who sees the picture whole."""
    image = torch.zeros(1, 3, 16 * larger, 16 * larger)
    image[:, :, ::2] = 1
    t = Transforms(fill="wrap", views=8, **moves)
    assert (apply(t, numbers(t, 0), image, (16, 16)) - 0.5).abs().max() < 0.26


def test_views_that_do_not_shrink_are_sampled_once(monkeypatch):
    """And the recipes' zooms do not shrink a picture of the network's size by more than what one point averages."""
    monkeypatch.setattr(F, "avg_pool2d", None)
    monkeypatch.setattr(F, "interpolate", None)
    for recipe in RECIPES.values():
        apply(
            recipe.transforms,
            numbers(recipe.transforms, 0),
            pictures(1, (12, 12)),
            (12, 12),
            noise(recipe.transforms, (12, 12), 1),
        )
    t = Transforms(zoom=(2.0, 3.0), shift=0.1)
    apply(t, numbers(t, 0), pictures(1, (20, 20)), (10, 10))


# Colours, noise, blur


def test_colours_are_scaled_and_shifted():
    t = Transforms(views=2, color_scale=0.7, color_shift=0.4)
    images, drawn = pictures(2, (5, 6)), numbers(t, 1, 2)
    views = apply(t, drawn, images, (5, 6)).numpy()
    for i in range(4):
        u = 2 * drawn[i].double().numpy() - 1
        for c in range(3):
            expected = images[i // 2, c].numpy() * math.exp(u[SCALE][c] * 0.7) + u[SHIFT][c] * 0.4
            np.testing.assert_allclose(views[i, c], expected, atol=1e-6)


def test_what_chance_gives_one_setting_it_gives_no_other():
    """A random fill is no brighter where colours are scaled up, and a strong blur is no sign of a red shift."""
    t = Transforms(views=256)
    correlation = np.corrcoef(numbers(t, *range(8)).T.numpy())
    assert np.abs(correlation - np.eye(17)).max() < 0.12
    used = [{ANGLE}, {ZOOM}, {ACROSS, DOWN}, {BLUR}, {FLIP}, {6, 7, 8}, {9, 10, 11}, {12, 13, 14}, {15, 16}]
    settings = [
        {"rotate": 30.0}, {"zoom": (0.5, 2.0)}, {"shift": 0.2}, {"blur": 0.2}, {"flip": True},
        {"fill": "random", "zoom": (0.5, 0.5)}, {"color_scale": 1.0}, {"color_shift": 1.0}, {"centre_sd": 0.2},
    ]  # fmt: skip
    image, start = pictures(1, (12, 12)), torch.full((1, 17), 0.3)
    for columns, values in zip(used, settings, strict=True):
        t, found = Transforms(**values), set()
        for column in range(17):
            changed = start.clone()
            changed[:, column] = 0.6
            if not torch.equal(apply(t, changed, image, (12, 12)), apply(t, start, image, (12, 12))):
                found.add(column)
        assert found == columns, values


def test_noise_has_its_deviation_and_comes_from_each_pictures_generator():
    t = Transforms(views=4, noise=0.2)
    images = torch.full((2, 3, 20, 20), 0.5)
    views = apply(t, numbers(t, 0, 1), images, (20, 20), noise(t, (20, 20), 5, 6))
    off = views - 0.5
    assert off.std().item() == pytest.approx(0.2, rel=0.05) and abs(off.mean()) < 0.01
    assert np.abs(np.corrcoef(off.flatten(1).numpy()) - np.eye(8)).max() < 0.15  # every view its own
    alone = apply(t, numbers(t, 1), images[1:], (20, 20), noise(t, (20, 20), 6))
    assert torch.equal(alone, views[4:])


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_a_blur_is_scipys(sigma):
    images = pictures(2, (20, 25))
    found = gaussian_blur(images, torch.tensor([sigma, sigma], dtype=torch.float64), sigma).numpy()
    for n in range(2):
        for c in range(3):
            expected = gaussian_filter(images[n, c].numpy(), sigma, mode="mirror", radius=math.ceil(3 * sigma))
            np.testing.assert_allclose(found[n, c], expected, atol=1e-10)


def test_a_picture_is_blurred_alike_whatever_its_neighbours_are():
    images = pictures(2, (40, 40))
    both = gaussian_blur(images, torch.tensor([0.7, 5.0], dtype=torch.float64), 5.0)
    alone = gaussian_blur(images[:1], torch.tensor([0.7], dtype=torch.float64), 0.7)
    torch.testing.assert_close(both[:1], alone, atol=1e-12, rtol=0)


def test_blurs_of_views_reach_up_to_their_fraction_of_the_side():
    t = Transforms(blur=0.1)
    image = pictures(1, (30, 30))
    views = apply(t, fixed(BLUR=0.5), image, (30, 30))
    expected = gaussian_blur(image, torch.tensor([0.5 * 0.1 * 30], dtype=torch.float64), 1.5)
    torch.testing.assert_close(views, expected)
    torch.testing.assert_close(apply(t, fixed(BLUR=0.0), image, (30, 30)), image)


def test_a_blur_wider_than_the_picture_is_still_one():
    assert torch.isfinite(gaussian_blur(pictures(1, (5, 6)), torch.tensor([9.0], dtype=torch.float64), 9.0)).all()


# Slopes


@pytest.mark.parametrize("values", [
    MOVES["all"], MOVES["all"] | {"fill": "reflect"}, MOVES["all"] | {"fill": "wrap"}, MOVES["all"] | {"fill": "random"},
    {"blur": 0.2}, {"noise": 0.1}, MOVES["smaller"], {"zoom": (0.1, 0.1), "fill": "reflect"},
    {"color_shift": 0.3, "color_scale": 0.3}, MOVES["all"] | {"blur": 0.1, "noise": 0.1, "color_scale": 0.3},
], ids=str)  # fmt: skip
def test_slopes_by_finite_differences(values):
    t = Transforms(views=2, **values)
    images, drawn = pictures(2, (8, 9)), numbers(t, 1, 2)
    weights = torch.randn(4, 3, 7, 8, dtype=torch.float64, generator=generators(3)[0])

    def total(x):
        return (apply(t, drawn, x, (7, 8), noise(t, (7, 8), 8, 9)).square() * weights).sum()

    x = images.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(total(x), x)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=generators(4)[0])
    numeric = (total(images + 1e-6 * direction) - total(images - 1e-6 * direction)).item() / 2e-6
    assert numeric == pytest.approx((slope * direction).sum().item(), rel=1e-6)


# Whose chance it is


def test_a_pictures_views_do_not_depend_on_the_batch():
    t = Transforms(
        views=3, shift=0.1, centre_sd=0.1, rotate=20.0, zoom=(0.8, 1.3), flip=True, fill="random", noise=0.1, blur=0.1,
        color_shift=0.2, color_scale=0.2,
    )  # fmt: skip
    images = pictures(4, (16, 16))
    together = apply(t, numbers(t, 1, 2, 3, 4), images, (14, 14), noise(t, (14, 14), 11, 12, 13, 14))
    for i in range(4):
        alone = apply(t, numbers(t, i + 1), images[i : i + 1], (14, 14), noise(t, (14, 14), 11 + i))
        torch.testing.assert_close(alone, together[3 * i : 3 * i + 3], atol=1e-6, rtol=0)
    order = [2, 0]
    some = apply(t, numbers(t, 3, 1), images[order], (14, 14), noise(t, (14, 14), 13, 11))
    torch.testing.assert_close(some[:3], together[6:9], atol=1e-6, rtol=0)


def test_one_setting_does_not_change_what_chance_gives_the_others():
    plain = numbers(Transforms(shift=0.1), 5)
    assert torch.equal(numbers(Transforms(shift=0.1, rotate=30.0, flip=True, noise=0.2, fill="random"), 5), plain)


def test_every_step_draws_anew():
    t, source = Transforms(), generators(1)
    assert not torch.equal(draw(t, source), draw(t, source))


# Settings


def test_between_mixes_every_number():
    start = Transforms(views=4, shift=0.0, rotate=10.0, zoom=(1.0, 2.0), noise=0.4, flip=True, fill="reflect")
    end = Transforms(views=4, shift=0.2, rotate=30.0, zoom=(3.0, 4.0), noise=0.0, blur=0.1)
    half = between(start, end, 0.5)
    assert half == Transforms(
        views=4, shift=0.1, rotate=20.0, zoom=(2.0, 3.0), noise=0.2, blur=0.05, flip=True, fill="reflect"
    )
    assert between(start, end, 0.0) == start
    assert between(start, end, 1.0) == Transforms(
        views=4, shift=0.2, rotate=30.0, zoom=(3.0, 4.0), blur=0.1, flip=True, fill="reflect"
    )


def test_between_mixes_whole_numbers_too():
    assert between(Transforms(noise=1), Transforms(noise=0), 0.25).noise == 0.75
    assert str(Transforms(shift=0, rotate=3, zoom=(1, 2))) == str(Transforms(shift=0.0, rotate=3.0, zoom=(1.0, 2.0)))


@pytest.mark.parametrize("values, words", [
    ({"fill": "blue"}, "no fill “blue”; choose one of grey, random, reflect, wrap"),
    ({"views": 0}, "number of views"),
    ({"views": 1000}, "number of views"),
    ({"views": 1.5}, "number of views"),
    ({"views": True}, "number of views"),
    ({"flip": "yes"}, "flip is true or false"),
    ({"zoom": (2.0, 1.0)}, "zoom is"),
    ({"zoom": (0.0, 1.0)}, "zoom is"),
    ({"zoom": (1.0, float("nan"))}, "zoom is"),
    ({"zoom": (1.0,)}, "zoom is"),
    *[({name: bad}, f"{name} must not be negative") for name in (
        "shift", "centre_sd", "rotate", "noise", "blur", "color_shift", "color_scale",
    ) for bad in (-0.1, float("nan"), float("inf"))],
])  # fmt: skip
def test_settings_without_meaning_are_refused(values, words):
    with pytest.raises(UndefinedError, match=words):
        Transforms(**values)


@pytest.mark.parametrize("name, value", [
    ("shift", 0.1), ("centre_sd", 0.1), ("rotate", 1.0), ("flip", True), ("zoom", (1.0, 1.1)),
])  # fmt: skip
def test_what_counts_as_a_move(name, value):
    assert Transforms(**{name: value}).moves


@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_gathered_views_and_their_slopes_are_grid_samples(padding):
    """Far beyond the edges too, where a reflection turns more than once."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, 3, 7, 10), generator=generator, dtype=torch.float64, requires_grad=True)
    grid = 6 * torch.rand((2, 9, 8, 2), generator=generator, dtype=torch.float64) - 3
    weights = torch.rand((2, 3, 9, 8), generator=generator, dtype=torch.float64)
    found = []
    for sample in (gathered, F.grid_sample):
        views = sample(images, grid, padding_mode=padding, align_corners=False)
        found.append((views, *torch.autograd.grad((views * weights).sum(), images)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)

"""Parameterizations against NumPy, there and back, from size to size, and by what their own optimiser can reach."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import UndefinedError
from lsd.features import parameterizations
from lsd.features.parameterizations import (
    COLOR_CORRELATION,
    Fourier,
    carry_over,
    fourier_scale,
    frequencies,
    make,
    natural_spectrum,
    resize_spectrum,
)
from lsd.images import example_images

SIZES = [(8, 8), (9, 7), (6, 11), (12, 10)]
each_size = pytest.mark.parametrize("size", SIZES)
each_squash = pytest.mark.parametrize("squash", ["sigmoid", "clamp"])


def photo(label="Chelsea the cat", side=64) -> torch.Tensor:
    """(1, 3, side, side) in [0, 1]."""
    image = Image.open(example_images()[label]).convert("RGB")
    short = min(image.size)
    square = image.crop((0, 0, short, short)).resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None].float() / 255


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def squashed(values, squash):
    return 1 / (1 + np.exp(-values)) if squash == "sigmoid" else np.clip(values + 0.5, 0, 1)


def half_spectrum_to_picture(half, height, width):
    """The inverse transform written as a sum of waves: each coefficient and its mirror image, for each pixel."""
    y, x = np.mgrid[:height, :width]
    out = np.zeros((height, width))
    for r in range(height):
        for c in range(half.shape[1]):
            wave = half[r, c] * np.exp(2j * np.pi * (r * y / height + c * x / width))
            mirrored = c > 0 and not (width % 2 == 0 and c == width // 2)
            out += wave.real * (2 if mirrored else 1)
    return out / math.sqrt(height * width)


# Against NumPy


def test_colours_are_lucids():
    """The matrix of Lucid's color.py: the square root of the covariance over its largest column norm."""
    svd_sqrt = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    largest = max(math.sqrt(sum(svd_sqrt[r, c] ** 2 for r in range(3))) for c in range(3))
    np.testing.assert_allclose(COLOR_CORRELATION, svd_sqrt / largest, rtol=1e-5)


@each_size
@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_the_scale_falls_with_the_frequency(size, decay):
    height, width = size
    found = fourier_scale(height, width, decay)
    assert found.shape == frequencies(height, width).shape == (height, width // 2 + 1)
    for r in range(height):
        for c in range(width // 2 + 1):
            f = math.hypot(min(r, height - r) / height, c / width)  # rows above the middle are negative frequencies
            assert frequencies(height, width)[r, c] == pytest.approx(f)
            assert found[r, c] == pytest.approx(1 / max(f, 1 / max(height, width)) ** decay)


@each_size
@each_squash
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_fourier_decodes_to_a_sum_of_waves(size, squash, decay):
    height, width = size
    numbers = Fourier(size, decay=decay, squash=squash).noise(generators(0, 1), 1.0)
    found = Fourier(size, decay=decay, squash=squash).decode(numbers).numpy()
    scale = fourier_scale(height, width, decay) / 4
    for n in range(2):
        z = (numbers[n, ..., 0].numpy() + 1j * numbers[n, ..., 1].numpy()) * scale
        channels = np.stack([half_spectrum_to_picture(z[c], height, width) for c in range(3)])
        rgb = np.einsum("dc,chw->dhw", COLOR_CORRELATION, channels)
        np.testing.assert_allclose(found[n], squashed(rgb, squash), atol=2e-6)


@each_squash
def test_pixels_are_squashed_and_nothing_else(squash):
    p = make("pixels", (5, 6), squash=squash)
    numbers = p.noise(generators(0), 1.0)
    np.testing.assert_allclose(p.decode(numbers).numpy(), squashed(numbers.numpy(), squash), atol=1e-6)


@each_squash
def test_maco_decodes_phases_with_natural_magnitudes(squash):
    size = height, width = 12, 10
    p = make("maco", size, squash=squash)
    numbers = p.noise(generators(3), 1.0)
    phase = numbers[0].double().numpy()
    phase = (phase - phase.mean()) / phase.std() * math.pi / math.sqrt(3)
    z = resize_spectrum(natural_spectrum(), height, width) * np.exp(1j * phase)
    channels = np.stack([half_spectrum_to_picture(z[c], height, width) for c in range(3)])
    channels = (channels - channels.mean()) / channels.std()
    rgb = np.einsum("dc,chw->dhw", COLOR_CORRELATION, channels)
    np.testing.assert_allclose(p.decode(numbers)[0].numpy(), squashed(rgb, squash), atol=1e-4)


@each_squash
@pytest.mark.parametrize("kind", parameterizations.KINDS)
@pytest.mark.parametrize("sd", [0.01, 1.0, 100.0])
def test_pictures_lie_between_0_and_1(kind, squash, sd):
    p = make(kind, (9, 12), squash=squash)
    images = p.decode(p.noise(generators(0, 1, 2), sd))
    assert images.shape == (3, 3, 9, 12) and images.min() >= 0 and images.max() <= 1
    assert images.std() > 1e-4


@pytest.mark.parametrize("kind", ["pixels", "fourier"])
@each_squash
def test_no_noise_is_grey(kind, squash):
    p = make(kind, (8, 8), squash=squash)
    torch.testing.assert_close(p.decode(p.noise(generators(0), 0.0)), torch.full((1, 3, 8, 8), 0.5))


@pytest.mark.parametrize("kind", parameterizations.KINDS)
@each_squash
def test_slopes_by_finite_differences(kind, squash):
    p = make(kind, (6, 7), squash=squash)
    numbers = p.noise(generators(0), 0.3).double().requires_grad_(True)
    weights = torch.randn(1, 3, 6, 7, dtype=torch.float64, generator=generators(9)[0])
    (slope,) = torch.autograd.grad((p.decode(numbers) * weights).sum(), numbers)
    direction = torch.randn(numbers.shape, dtype=torch.float64, generator=generators(1)[0])
    with torch.no_grad():
        up, down = ((p.decode(numbers + s * 1e-6 * direction) * weights).sum() for s in (1, -1))
    assert ((up - down) / 2e-6).item() == pytest.approx((slope * direction).sum().item(), rel=1e-5, abs=1e-7)


def test_what_there_is_not_is_refused():
    with pytest.raises(UndefinedError, match="no parameterization “wavelets”; choose one of fourier, pixels, maco"):
        make("wavelets", (8, 8))
    with pytest.raises(UndefinedError, match="no squash “tanh”"):
        make("pixels", (8, 8), squash="tanh")


# There and back


@pytest.mark.parametrize("kind", ["pixels", "fourier"])
@each_squash
@pytest.mark.parametrize("size", [(32, 32), (31, 33)])
def test_encode_then_decode_gives_the_picture_back(kind, squash, size):
    p = make(kind, size, squash=squash)
    image = torch.rand(2, 3, *size, generator=generators(0)[0]) * 0.9 + 0.05
    torch.testing.assert_close(p.decode(p.encode(image)), image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["pixels", "fourier"])
@each_squash
def test_black_and_white_come_back_nearly(kind, squash):
    p = make(kind, (8, 8), squash=squash)
    image = (torch.arange(64) % 3 == 0).float().view(1, 1, 8, 8).repeat(1, 3, 1, 1)
    assert (p.decode(p.encode(image)) - image).abs().max() < 2e-3


def test_maco_keeps_a_photos_phases():
    """The magnitudes are natural ones and not the photo's, yet what the photo shows stays."""
    p, image = make("maco", (64, 64)), photo()
    numbers = p.encode(image)
    again = p.decode(numbers)
    assert np.corrcoef(again.flatten(), image.flatten())[0, 1] > 0.65
    phases = torch.exp(1j * numbers), torch.exp(1j * p.encode(again))
    assert (phases[0] * phases[1].conj()).real.mean() > 0.99


# What the optimiser reaches


def fit(p, target, steps, rate, start_sd=0.01):
    numbers = p.noise(generators(0), start_sd).requires_grad_(True)
    optimizer = torch.optim.Adam([numbers], lr=rate)
    errors = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        off = p.decode(numbers) - target
        optimizer.zero_grad()
        off.square().sum().backward()
        optimizer.step()
        errors.append(off.abs().mean().item())
    return errors


@pytest.mark.parametrize("kind, squash, rate", [
    ("pixels", "sigmoid", 0.1), ("fourier", "sigmoid", 0.3), ("pixels", "clamp", 0.03), ("fourier", "clamp", 0.05),
])  # fmt: skip
@pytest.mark.parametrize("label", ["Chelsea the cat", "Astronaut"])
def test_any_photo_can_be_reached(kind, rate, squash, label):
    """By smaller steps with "clamp", which has no gradient for what has overshot."""
    errors = fit(make(kind, (64, 64), squash=squash), photo(label), 300, rate)
    assert errors[0] > 0.1 and errors[-1] < 0.01


def test_maco_reaches_pictures_with_natural_magnitudes():
    """A photo's own magnitudes are out of its reach by design, so the target is of its own making. The phases of faint
    waves are many and hardly matter, and the way to them is not convex: it comes near, and does not arrive."""
    p = make("maco", (32, 32))
    with torch.no_grad():
        target = p.decode(p.noise(generators(7), 1.0))
        near = p.noise(generators(7), 1.0) + 0.3 * p.noise(generators(8), 1.0)
    far = fit(p, target, 300, 0.1, 1.0)
    assert far[-1] < 0.35 * far[0]
    p.noise = lambda *_: near.clone()
    close = fit(p, target, 300, 0.05)
    assert close[0] > 0.03 and close[-1] < 0.01


# Noise


@pytest.mark.parametrize("kind", parameterizations.KINDS)
def test_noise_depends_on_each_generator_alone(kind):
    p = make(kind, (8, 10))
    together = p.noise(generators(1, 2, 3), 0.5)
    for i, seed in enumerate((1, 2, 3)):
        assert torch.equal(p.noise(generators(seed), 0.5)[0], together[i])
    assert torch.equal(p.noise(generators(3, 1), 0.5), together[[2, 0]])
    assert not torch.equal(together[0], together[1])
    assert together.std().item() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(p.noise(generators(1, 2, 3), 1.0), together * 2)


# Spectra


def test_the_natural_spectrum_is_there_without_a_network():
    """(The fixture no_network makes every connection fail.)"""
    natural_spectrum.cache_clear()
    magnitude = natural_spectrum()
    assert magnitude.shape == (3, 128, 65) and magnitude.dtype == np.float32
    assert np.isfinite(magnitude).all() and (magnitude > 0).all()


def test_the_natural_spectrum_falls_with_the_frequency():
    magnitude, f = natural_spectrum(), frequencies(128, 128) * 128
    rings = np.array([[m[(f >= r) & (f < 2 * r)].mean() for r in (1, 2, 4, 8, 16, 32)] for m in magnitude])
    assert (np.diff(rings) < 0).all()
    slopes = np.log2(rings[:, 0] / rings[:, -1]) / 5  # per octave
    assert (slopes > 0.7).all() and (slopes < 2).all()


def test_the_natural_spectrum_is_that_of_pictures_of_unit_deviation():
    """Parseval, with the two rows of every mirrored column: the power of the mean spectrum is near 1 a number."""
    twice = np.full(65, 2.0)
    twice[[0, -1]] = 1
    power = (natural_spectrum().astype(float) ** 2 * twice).sum() / (3 * 128 * 128)
    assert 0.3 < power < 1.1


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (64, 48), (128, 128), (224, 224), (200, 151)])
def test_a_spectrum_that_falls_as_one_over_f_does_so_at_every_size(size):
    """Cycles a picture, on either side of the band that is known."""

    def cycles(height, width):
        return np.maximum(np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width), 1e-9)

    known = np.stack([k / cycles(128, 128) for k in (1, 2, 3)])
    known[:, 0, 0] = 5.0
    found = resize_spectrum(known, *size)
    assert found.shape == (3, size[0], size[1] // 2 + 1)
    f = cycles(*size)
    away = f > 0.5
    for k in range(3):
        np.testing.assert_allclose(found[k][away] * f[away], k + 1, rtol=0.02)
    assert (found[:, 0, 0] == 5.0).all()


def test_a_spectrum_keeps_its_direction():
    """Power along the rows alone stays along the rows."""
    known = np.full((3, 128, 65), 1e-6)
    known[:, :, 0] = 1.0
    found = resize_spectrum(known, 32, 32)
    assert (found[:, :, 0] > 0.99).all() and (found[:, :, 2:] < 1e-5).all()
    tall = np.full((3, 128, 65), 1e-6)
    tall[:, 5, 3] = 1.0  # one wave: five down, three across
    found = resize_spectrum(tall, 40, 64)
    assert found[0, 5, 3] == pytest.approx(1.0) and found[0, -5, 3] < 1e-5


# From size to size


def smooth(size, highest=3, seed=0):
    """A picture made of waves of at most `highest` cycles, the same at every size."""
    g = np.random.default_rng(seed)
    y, x = np.arange(size[0])[:, None] / size[0], np.arange(size[1])[None] / size[1]
    out = np.zeros((3, *size))
    for channel in range(3):
        for r in range(-highest, highest + 1):
            for c in range(highest + 1):
                out[channel] += g.normal() * np.cos(2 * np.pi * (r * y + c * x) + g.uniform(0, 6))
    return torch.tensor(0.5 + 0.4 * np.tanh(out / 4)[None], dtype=torch.float32)


STEPS = [((16, 16), (32, 32)), ((32, 32), (16, 16)), ((15, 17), (24, 31)), ((24, 31), (15, 17)), ((9, 16), (16, 9))]


@pytest.mark.parametrize("old, new", STEPS)
def test_waves_that_both_sizes_have_are_kept_exactly(old, new):
    """Before the squash a picture of few waves is the same function of place at either size."""
    a, b = Fourier(old), Fourier(new)
    numbers = torch.zeros(1, 3, old[0], old[1] // 2 + 1, 2)
    values = torch.randn(1, 3, 7, 4, 2, generator=generators(0)[0])
    numbers[:, :, :4, :4], numbers[:, :, -3:, :4] = values[:, :, :4], values[:, :, 4:]
    numbers[:, :, 0, 0, 1] = 0
    carried = carry_over(numbers, a, b)
    at_old, at_new = torch.logit(a.decode(numbers)), torch.logit(b.decode(carried))
    rows, columns = math.gcd(old[0], new[0]), math.gcd(old[1], new[1])
    torch.testing.assert_close(  # pixels whose left upper corners coincide
        at_new[..., :: new[0] // rows, :: new[1] // columns], at_old[..., :: old[0] // rows, :: old[1] // columns],
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    torch.testing.assert_close(carry_over(carried, b, a), numbers, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("old, new", [((5, 3), (15, 9)), ((5, 7), (20, 28))])
def test_of_odd_sizes_every_wave_is_kept(old, new):
    a, b = Fourier(old), Fourier(new)
    numbers = a.encode(a.decode(a.noise(generators(0), 1.0)))
    carried = carry_over(numbers, a, b)
    torch.testing.assert_close(b.decode(carried)[..., :: new[0] // old[0], :: new[1] // old[1]], a.decode(numbers))
    torch.testing.assert_close(carry_over(carried, b, a), numbers, atol=1e-5, rtol=1e-4)
    assert not carried[:, :, 3:-2].any() and not carried[:, :, :, old[1] // 2 + 1 :].any()  # no finer than they were


@pytest.mark.parametrize("kind", ["pixels", "fourier"])
@pytest.mark.parametrize("old, new", STEPS)
@each_squash
def test_a_picture_is_the_same_at_another_size(kind, old, new, squash):
    a, b = make(kind, old, squash=squash), make(kind, new, squash=squash)
    image = smooth(old, 2)
    again = b.decode(carry_over(a.encode(image), a, b))
    assert again.shape == (1, 3, *new)
    if kind == "fourier":  # waves are the same function of place; their pixels are points, the first at the corner
        assert (again - smooth(new, 2)).abs().mean() < 0.01
    else:  # pixels are squares
        expected = torch.nn.functional.interpolate(image, new, mode="bicubic", antialias=True).clamp(0, 1)
        torch.testing.assert_close(again, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("old, new", [((32, 32), (64, 64)), ((64, 64), (32, 32)), ((31, 33), (64, 50))])
def test_maco_keeps_what_the_picture_shows_at_another_size(old, new):
    a, b = make("maco", old), make("maco", new)
    before = a.decode(a.encode(photo(side=64) if old == (64, 64) else
                               torch.nn.functional.interpolate(photo(), old, mode="area")))  # fmt: skip
    after = b.decode(carry_over(a.encode(before), a, b))
    expected = torch.nn.functional.interpolate(before, new, mode="bicubic", antialias=True)
    assert np.corrcoef(after.flatten(), expected.flatten())[0, 1] > 0.8


def test_noise_at_the_highest_frequency_keeps_its_strength():
    """The last column of an even size stands for itself alone, and at a larger size for two."""
    a, b = Fourier((8, 8)), Fourier((16, 16))
    numbers = torch.zeros(1, 3, 8, 5, 2)
    numbers[:, 0, 0, 4, 0] = 1.0
    small, large = torch.logit(a.decode(numbers)), torch.logit(b.decode(carry_over(numbers, a, b)))
    torch.testing.assert_close(large[..., ::2, ::2], small, atol=1e-5, rtol=1e-4)
    back = carry_over(carry_over(numbers, a, b), b, a)
    torch.testing.assert_close(back, numbers, atol=1e-5, rtol=1e-4)


# Contrast


@pytest.mark.parametrize("kind", parameterizations.KINDS)
def test_a_picture_beyond_its_contrast_is_scaled_down_to_it(kind):
    bounded, free = (make(kind, (12, 10), contrast=contrast) for contrast in (0.5, 0.0))
    weak, strong = (free.noise(generators(0, 1), sd) for sd in (1e-4, 30.0))
    if kind != "maco":  # its pictures have one deviation, whatever the phases are
        assert torch.equal(bounded.decode(weak), free.decode(weak))
    values = torch.logit(bounded.decode(strong).double())
    assert values.std((1, 2, 3), correction=0).numpy() == pytest.approx([0.5, 0.5], rel=1e-3)


def test_a_step_that_only_makes_a_picture_harsher_leads_nowhere():
    bounded = make("pixels", (8, 8), contrast=0.5)
    numbers = (2 * torch.randn((1, 3, 8, 8), dtype=torch.float64)).requires_grad_(True)
    numbers.data -= numbers.mean()
    weights = torch.randn((1, 3, 8, 8), dtype=torch.float64)
    (slope,) = torch.autograd.grad((bounded.decode(numbers) * weights).sum(), numbers)
    assert slope.abs().max() > 1e-3 and abs((slope * numbers).sum()) < 1e-12
    h, direction = 1e-6, torch.randn((1, 3, 8, 8), dtype=torch.float64)
    up, down = ((bounded.decode(numbers + s * h * direction) * weights).sum() for s in (1, -1))
    assert ((up - down) / (2 * h)).item() == pytest.approx((slope * direction).sum().item(), rel=1e-6)

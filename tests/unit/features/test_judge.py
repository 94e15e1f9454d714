"""What is said of finished pictures, on cases whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lsd.features import judge
from lsd.features.units import Leaf, parse
from lsd.layers import curated_layers


class Colours(nn.Module):
    """Three classes: how red, green, blue a picture is; `conv` is the picture itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Identity()

    def forward(self, x):
        return 10 * self.conv(x).mean((2, 3))


@pytest.fixture
def colours(wrap):
    return wrap(Colours(), 16).float()


def plain(red, green, blue, side=16):
    return np.broadcast_to(np.array([red, green, blue], np.uint8), (side, side, 3)).copy()


def waves(cycles_down, cycles_across, side=32, amplitude=100):
    y, x = np.mgrid[:side, :side]
    wave = 128 + amplitude * np.cos(2 * np.pi * (cycles_down * y + cycles_across * x) / side)
    return np.repeat(wave[..., None], 3, 2).round().astype(np.uint8)


def test_the_batch_is_what_the_network_takes(colours):
    batch = judge.to_batch([plain(255, 0, 51), plain(0, 255, 0)], colours)
    assert batch.shape == (2, 3, 16, 16) and batch.dtype == colours.dtype
    np.testing.assert_allclose(batch[0, :, 3, 5], [1, 0, 0.2])
    larger = judge.to_batch([plain(255, 0, 51, 40)], colours)
    assert larger.shape == (1, 3, 16, 16)
    torch.testing.assert_close(larger, batch[:1])


def test_rows_and_columns_stay_apart(colours):
    pixels = plain(0, 0, 0)
    pixels[2, 7] = 255
    assert judge.to_batch([pixels], colours)[0, 0].nonzero().tolist() == [[2, 7]]


def test_a_verdict_says_why_its_names_are_to_be_doubted(colours):
    assert judge.classify([plain(255, 0, 51)], colours)[0].note == ""
    colours.names_note = "They are assumed."
    assert judge.classify([plain(255, 0, 51)], colours)[0].note == "They are assumed."


def test_pictures_are_classified_best_first(colours):
    red, mixed = judge.classify([plain(255, 0, 51), plain(0, 200, 255)], colours, top=2)
    e = np.exp(np.array([10.0, 0.0, 2.0]))
    assert [i for i, _, _ in red.top] == [0, 2] and [i for i, _, _ in mixed.top] == [2, 1]
    np.testing.assert_allclose([p for _, _, p in red.top], (e / e.sum())[[0, 2]], rtol=1e-4)
    assert red.model == "handmade"
    assert len(judge.classify([plain(0, 0, 0)], colours)[0].top) == 3  # no more than there are


def test_verdicts_name_the_classes(demo):
    (verdict,) = judge.classify([plain(9, 9, 9, 96)], demo("resnet"), top=1)
    ((index, name, probability),) = verdict.top
    assert name == demo("resnet").class_names[index] and 0 < probability <= 1 and verdict.model == "demo:resnet"


def test_probabilities_do_not_depend_on_the_size_of_batches(colours):
    pixels = [plain(10 * i, 255 - 10 * i, 3) for i in range(7)]
    torch.testing.assert_close(judge.probabilities(pixels, colours, 3), judge.probabilities(pixels, colours))
    assert judge.probabilities(pixels, colours).sum(1) == pytest.approx(1, abs=1e-5)


def test_the_strongest_answer_over_photos(colours):
    def photo(*values):
        return torch.tensor(values).view(1, 3, 1, 1).expand(1, 3, 16, 16)

    photos = [torch.cat([photo(0.1, 0.2, 0.3), photo(0.9, 0.0, 0.0)]), photo(0.3, 0.7, 0.1)]
    units = [parse(t) for t in ("class/0", "class/1", "conv/channel/2", "class/0 - class/1", "handmade::class/2")]
    found = judge.answers(units, colours, photos, output="logit").amax(1).tolist()
    assert found == pytest.approx([9, 7, 0.3, 9, 3], rel=1e-5)
    odds = judge.answers(units[:1], colours, photos).max().item()
    assert odds == pytest.approx(9 - math.log(2), rel=1e-5)  # log-odds by default


def test_spread_is_the_mean_cosine_distance(colours):
    red, green, yellow = plain(255, 0, 0), plain(0, 255, 0), plain(255, 255, 0)
    assert judge.spread([red, red], colours, "conv") == pytest.approx(0, abs=1e-9)
    assert judge.spread([red, plain(90, 0, 0)], colours, "conv") == pytest.approx(0, abs=1e-9)  # not how strong
    assert judge.spread([red, green], colours, "conv") == pytest.approx(1)
    half = 1 - 1 / math.sqrt(2)
    assert judge.spread([red, green, yellow], colours, "conv") == pytest.approx((1 + 2 * half) / 3)
    assert math.isnan(judge.spread([red], colours, "conv"))


@pytest.mark.parametrize("cycles, share", [
    ((1, 0), 0), ((0, 5), 0), ((7, 0), 0), ((5, 5), 0), ((6, 6), 1), ((9, 0), 1), ((0, 15), 1), ((16, 0), 1),
])  # fmt: skip
def test_fine_energy_is_what_lies_above_a_quarter_of_a_cycle_a_pixel(cycles, share):
    assert judge.fine_energy(waves(*cycles)) == pytest.approx(share, abs=2e-3)


def test_detail_at_the_edge_is_held_against_the_middle():
    noise = np.random.default_rng(0).integers(28, 228, (96, 80, 3)).astype(float)
    faded = 128 + (noise - 128) / 4
    faded[12:-12, 10:-10] = noise[12:-12, 10:-10]  # all but the outer eighth
    assert judge.edge_detail(noise.astype(np.uint8)) == pytest.approx(1, abs=0.03)
    assert judge.edge_detail(faded.astype(np.uint8)) == pytest.approx(0.25, abs=0.04)  # where they meet it counts, too
    assert np.isnan(judge.edge_detail(plain(128, 128, 128)))


def test_contrast_is_a_deviation_and_clipped_a_share():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = 255
    assert judge.contrast(pixels) == 0.5 and judge.clipped(pixels) == 1.0
    pixels[0, 0] = (2, 3, 252)
    pixels[3, 3] = (253, 128, 0)
    assert judge.clipped(pixels) == pytest.approx(1 - 3 / 48)
    assert judge.contrast(plain(7, 7, 7)) == judge.clipped(plain(7, 7, 7)) == 0.0


def test_fine_energy_is_a_share():
    """Of two waves of which one is three times as strong, and of noise, whose power is spread evenly."""
    mixed = (waves(2, 0, amplitude=30).astype(int) + waves(0, 12, amplitude=90) - 128).clip(0, 255).astype(np.uint8)
    assert judge.fine_energy(mixed) == pytest.approx(0.9, abs=0.01)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert judge.fine_energy(noise) == pytest.approx(1 - math.pi / 16, abs=0.03)
    assert judge.fine_energy(plain(7, 8, 9)) == 0.0


def test_pictures_with_nothing_on_them_are_told():
    assert judge.flatness(plain(128, 128, 128)) == "grey"
    assert judge.flatness(waves(3, 0, amplitude=3)) == "grey"
    assert judge.flatness(waves(3, 0)) == ""
    black_and_white = (waves(3, 0) > 128).astype(np.uint8) * 255
    assert judge.flatness(black_and_white) == "saturated"
    one_channel = waves(3, 0)
    one_channel[..., 0] = 255
    assert judge.flatness(one_channel) == ""


def test_spreads_are_of_units_with_several_pictures(image_model):
    model = image_model("test_resnet", dtype=torch.float32)
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    one, two = Leaf("class", (1,)), Leaf("class", (2,))
    found = judge.spreads([(one, noise[0]), (two, noise[1]), (one, noise[2]), (one, noise[3])], model)
    last = curated_layers(model)[-1].name
    assert found == {one: judge.spread([noise[0], noise[2], noise[3]], model, last)}
    assert judge.spreads([(one, noise[0]), (one, noise[0])], model)[one] == pytest.approx(0, abs=1e-6)

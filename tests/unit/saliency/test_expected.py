"""Expected gradients against the formula sample by sample, a closed form, and its own promise of completeness."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lsd.errors import UndefinedError
from lsd.images import example_images, open_image, prepare
from lsd.saliency.expected import baseline_photos, expected_gradients
from lsd.saliency.targets import Target


@pytest.fixture
def photos(tmp_path):
    """A folder of three pictures of noise, one of them a folder further down."""
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for name in ("a.png", "b.png", "more/c.png"):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 3 * 16 * 16))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


class Curved(Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x) / 20)


def shown(model, folder):
    return [torch.from_numpy(prepare(open_image(p), model.spec)).double() for p in sorted(folder.rglob("*.png"))]


def drawn(count, samples, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (samples,), generator=generator), torch.rand(samples, generator=generator).double()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("kind", ["logit", "log_odds"])
def test_it_is_the_formula_by_finite_differences(wrap, pictures, photos, kind, batch_size):
    """The slope along x − b at each point, by central differences, against the values' sum; and value by value by autograd."""
    model, x, target = wrap(Curved(), 16), pictures(1, 16), Target(1, kind)
    bases = shown(model, photos)
    which, at = drawn(len(bases), 8, seed=5)
    expected, along = torch.zeros_like(x[0]), 0.0
    for b, alpha in zip([bases[i] for i in which], at, strict=True):
        point = (b + alpha * (x[0] - b)).requires_grad_(True)
        (g,) = torch.autograd.grad(target(model(point[None])).sum(), point)
        expected += g * (x[0] - b) / 8
        ends = [target(model((b + (alpha + s * 1e-5) * (x[0] - b))[None])).item() for s in (1, -1)]
        along += (ends[0] - ends[1]) / 2e-5 / 8
    found = expected_gradients(model, x, target, samples=8, photos=str(photos), seed=5, batch_size=batch_size)
    torch.testing.assert_close(found.values[0], expected)
    assert found.values.sum().item() == pytest.approx(along, rel=1e-6)
    promise = target(model(x)).item() - np.mean([target(model(bases[i][None])).item() for i in which])
    assert found.completeness_gap.item() == pytest.approx(along - promise, rel=1e-5, abs=1e-9)
    assert found.passes == 8 and found.notes == (f"{len(which.unique())} photos of {photos} were the baselines.",)


def test_of_a_linear_network_it_is_weight_times_distance_and_complete(wrap, pictures, photos):
    model, x = wrap(Linear(), 16), pictures(2, 16)
    bases = shown(model, photos)
    which, _ = drawn(len(bases), 12, seed=0)
    mean = torch.stack([bases[i] for i in which]).mean(0)
    found = expected_gradients(model, x, Target(2, "logit"), samples=12, photos=str(photos))
    torch.testing.assert_close(found.values, (x - mean) * model.net.weight[2].view(3, 16, 16))
    assert found.completeness_gap.abs().max() < 1e-12 < found.standard_error.min()


def test_more_samples_come_closer(wrap, pictures, photos):
    model, x = wrap(Curved(), 16), pictures(1, 16)
    few, many = (expected_gradients(model, x, Target(1), samples=n, photos=str(photos), seed=3) for n in (8, 512))
    assert many.standard_error.item() < 0.3 * few.standard_error.item()
    assert abs(many.completeness_gap.item()) < abs(few.completeness_gap.item())


def test_targets_pictures_and_seeds_are_each_alone(image_model, pictures):
    model, x, targets = image_model("test_resnet"), pictures(2), [Target((3, 1)), Target(2, "contrast", 5)]
    together = expected_gradients(model, x, targets, samples=3)
    for target, one in zip(targets, together, strict=True):
        alone = expected_gradients(model, x, target, samples=3)
        assert torch.equal(one.values, alone.values) and torch.equal(one.completeness_gap, alone.completeness_gap)
        single = expected_gradients(model, x[1:], target.of(1), samples=3)
        torch.testing.assert_close(single.values[0], one.values[1])
        torch.testing.assert_close(single.completeness_gap[0], one.completeness_gap[1])
    assert not torch.equal(together[0].values, expected_gradients(model, x, targets[0], samples=3, seed=1).values)


def test_the_example_photos_are_there_without_a_folder():
    assert baseline_photos("") == list(example_images().values()) and len(baseline_photos("")) >= 5


def test_what_cannot_be_is_refused(image_model, pictures, tmp_path):
    model, x = image_model("test_resnet"), pictures()
    with pytest.raises(UndefinedError, match=r"There are no photos in .*, and expected gradients need some"):
        expected_gradients(model, x, Target(1), photos=str(tmp_path))
    for wrong in ({"samples": 0}, {"batch_size": 0}):
        with pytest.raises(UndefinedError, match="at least 1"):
            expected_gradients(model, x, Target(1), **wrong)
    with pytest.raises(UndefinedError, match=r"The pictures are 16 × 16 pixels, and .* takes 32 × 32"):
        expected_gradients(model, pictures(1, 16), Target(1), samples=2)

"""Our metrics held against those of Quantus and torch-cam, as a table.

    pip install quantus torchcam
    python -m benchmarks.metrics_agreement

Both sides get the same maps, pictures and random draws, in fp64. A row whose largest difference is above `ALIKE` computes
something else; docs/metrics.md says what.
"""

import importlib
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor, nn

from lsd import markdown
from lsd.evaluation import controls, metrics
from lsd.evaluation.labelled import open_set, true_indices
from lsd.evaluation.randomize import cascade
from lsd.evaluation.variants import Drawing, draw
from lsd.images import prepare
from lsd.layers import deepest_grid
from lsd.models import ImageModel, load_model
from lsd.saliency.gradients import baseline, grad_cam, integrated_gradients
from lsd.saliency.targets import Target

MODELS = ("demo:resnet", "demo:vit", "demo:convnext")
PICTURES, REGIONS = 4, 24
STEPS, GRID = 12, 8  # of curves, and cells a side: they divide the demo pictures, as Quantus wants it
PLAIN = {"abs": False, "normalise": False, "disable_warnings": True}
ALIKE = 1e-10
Pairs = defaultdict[tuple[str, str], list]  # (ours, theirs) → what each gives, case by case


class Outputs(nn.Module):
    """Pictures → logit, log-odds or probability of every class: a bare network, which others can copy and call."""

    def __init__(self, model: ImageModel, kind: str):
        super().__init__()
        self.net, self.mean, self.std, self.kind = model.net, model.mean, model.std, kind
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net((x.to(self.mean) - self.mean) / self.std)
        return torch.stack([Target(c, self.kind)(logits) for c in range(logits.shape[1])], 1)


@dataclass(frozen=True)
class Case:
    """A picture (1, 3, H, W) of a class, its object's pixels, and a map (H, W) without ties."""

    image: Tensor
    index: int
    mask: np.ndarray
    saliency: np.ndarray

    def ask(self, metric, net: nn.Module | None = None, mask: np.ndarray | None = None, **more) -> np.ndarray:
        """What a metric of Quantus says."""
        batch = {"x_batch": self.image.numpy(), "y_batch": np.array([self.index]), "a_batch": self.saliency[None, None]}
        segments = None if mask is None else mask[None, None]
        return np.squeeze(metric(model=net, s_batch=segments, softmax=False, device="cpu", **(batch | more)))


def magnitude(net: nn.Module, image: Tensor, index: int) -> np.ndarray:
    """The strongest channel of the gradient's magnitude, (H, W)."""
    image = image.detach().requires_grad_(True)
    return torch.autograd.grad(net(image)[0, index], image)[0][0].abs().amax(0).numpy()


def cases(model: ImageModel) -> list[list[Case]]:
    """For each of a few drawn pictures: the gradient, the same blurred, noise, and blurred noise."""
    pictures, found = open_set("demo", limit=PICTURES), []
    for seed, (item, index) in enumerate(zip(pictures, true_indices(pictures, model).tolist(), strict=True)):
        x = prepare(item.picture(), model.spec)
        image = torch.from_numpy(x)[None].double()
        own = magnitude(Outputs(model, "log_odds"), image, index)
        maps = (own, gaussian_filter(own, 3), controls.random(x, seed), controls.random_blurred(x, seed))
        found.append([Case(image, index, item.mask(), one) for one in maps])
    return found


def replace(filling: Tensor):
    """A perturbation for Quantus: the values of one picture at flat indices come from `filling`."""

    def perturb(arr, indices, **_):
        arr = arr.copy()
        arr[0, indices[0]] = filling.numpy().ravel()[indices[0]]
        return arr

    return perturb


def localization(pairs: Pairs, found: list[Case], quantus) -> None:
    """Where a map is."""
    mass, inside = quantus.RelevanceMassAccuracy(**PLAIN), quantus.AttributionLocalisation(**PLAIN)
    game, limit = quantus.PointingGame(weighted=False, **PLAIN), metrics.POINTING_TOLERANCE * len(found[0].mask) + 1e-9
    for c in found:
        ours, theirs = metrics.share_inside(c.saliency, c.mask), c.ask(mass, mask=c.mask)
        pairs["`share_inside`", "Quantus RelevanceMassAccuracy"].append((ours, theirs))
        for k in range(4):
            ours, cell = metrics.cell_share(c.saliency, 2, k), metrics.cell_mask(c.mask.shape, 2, k)
            pairs["`cell_share`", "Quantus AttributionLocalisation"].append((ours, c.ask(inside, mask=cell)))
        ours, grown = metrics.pointing(c.saliency, c.mask), distance_transform_edt(~c.mask) <= limit
        pairs["`pointing`", "Quantus PointingGame, mask grown"].append((ours, c.ask(game, mask=grown)))
        cut = Case(c.image, c.index, c.mask, draw(c.saliency[None], Drawing(), c.image[0].numpy()))
        ours, theirs = metrics.pointing(cut.saliency, c.mask), cut.ask(game, mask=grown)
        pairs["`pointing`, map cut at its 99th percentile", "Quantus PointingGame, mask grown"].append((ours, theirs))


def faithfulness(pairs: Pairs, model: ImageModel, seed: int, c: Case, quantus) -> None:
    """Whether the output hangs on what a map shows."""
    odds, chance = Outputs(model, "log_odds"), Outputs(model, "probability")
    mean, blur = (baseline(model, c.image, kind).float().double() for kind in ("mean", "blur"))
    regions = metrics.random_regions(GRID, 0.2, REGIONS, seed)
    with torch.no_grad():
        drops = (odds(c.image) - odds(metrics.remove_regions(c.image, mean, regions)))[:, c.index].numpy()
    ours = metrics.mu_fidelity(metrics.region_sums(c.saliency, regions), drops)
    masks = metrics.remove_regions(torch.zeros_like(c.image), torch.ones_like(c.image), regions).flatten(1)
    alike = {"similarity_func": quantus.similarity_func.correlation_spearman, "perturb_func": replace(mean)}
    with patch("numpy.random.choice", side_effect=[m.nonzero()[:, 0].numpy() for m in masks]):
        theirs = c.ask(quantus.FaithfulnessCorrelation(nr_runs=REGIONS, **alike, **PLAIN), odds)
    pairs["`mu_fidelity`", "Quantus FaithfulnessCorrelation, our settings"].append((ours, theirs))
    np.random.seed(seed)
    usual = quantus.FaithfulnessCorrelation(nr_runs=REGIONS, subset_size=c.image.numel() // 5, **PLAIN)
    theirs = c.ask(usual, Outputs(model, "logit"))
    pairs["`mu_fidelity`", "Quantus FaithfulnessCorrelation, its settings"].append((ours, theirs))
    steps = {"features_in_step": c.image.numel() // STEPS, **PLAIN}
    theirs = c.ask(quantus.FaithfulnessEstimate(perturb_func=replace(mean), **steps), odds)
    pairs["`mu_fidelity`", "Quantus FaithfulnessEstimate"].append((ours, theirs))

    def predict(batch: Tensor) -> Tensor:
        return chance(batch)[:, c.index]

    fractions = np.arange(1, STEPS + 1) / STEPS
    for name, start, end in (("deletion", c.image, mean), ("insertion", blur, c.image)):
        insert, ends = name == "insertion", predict(torch.cat([start, end])).tolist()
        filling, flip = (start if insert else end), {"perturb_func": replace(end), **steps}
        curve = metrics.removal_curves(predict, c.image, filling, [c.saliency], fractions, insert=insert)[0]
        theirs = c.ask(quantus.PixelFlipping(**flip), chance, x_batch=start.numpy())
        pairs[f"`removal_curves`, {name}", "Quantus PixelFlipping, our fill"].append((curve, theirs))
        area, ours = np.trapezoid(theirs), metrics.curve_area(fractions, curve, *ends)
        pairs[f"`curve_area`, {name}", "Quantus PixelFlipping's area by its steps"].append((ours, area / STEPS))
        area += (ends[0] + theirs[0]) / 2
        pairs[f"`curve_area`, {name}", "the same with the picture as it was"].append((ours, area / STEPS))
    side = len(c.mask) // GRID
    sums = metrics.region_sums(c.saliency, np.eye(GRID**2, dtype=bool).reshape(-1, GRID, GRID))
    blocks, shares = np.kron(sums.reshape(GRID, GRID), np.ones((side, side))), np.arange(1, STEPS + 1) / GRID**2
    curve = metrics.removal_curves(predict, c.image, mean, [blocks], shares, insert=False)[0]
    patches = {"patch_size": side, "regions_evaluation": STEPS, "perturb_func": replace(mean)}
    theirs = c.ask(quantus.RegionPerturbation(**patches, **PLAIN), chance)
    pairs["`removal_curves` of cells", "Quantus RegionPerturbation"].append((predict(c.image).item() - curve, theirs))


def robustness(pairs: Pairs, model: ImageModel, c: Case, quantus) -> None:
    """Noise, and completeness."""
    odds, generator = Outputs(model, "log_odds"), torch.Generator().manual_seed(0)

    def explain(model, inputs, targets, **_):
        return magnitude(model, torch.as_tensor(inputs), int(targets[0]))[None, None]

    def perturb(arr, **_):
        noise = (2 * torch.rand(c.image.shape, generator=generator) - 1) * 0.02
        return (torch.from_numpy(arr).view(c.image.shape) + noise).clamp(0, 1).numpy()

    ours = metrics.max_sensitivity(lambda x: magnitude(odds, x, c.index), c.image, samples=3)
    np.random.seed(0)
    for name, settings in (("our", {"perturb_func": perturb}), ("its", {"lower_bound": 0.02})):
        theirs = c.ask(quantus.MaxSensitivity(nr_samples=3, **settings, **PLAIN), odds, explain_func=explain)
        pairs["`max_sensitivity`", f"Quantus MaxSensitivity, {name} noise"].append((ours, theirs))
    result, seen = integrated_gradients(model, c.image, Target(c.index)), []
    change = (result.values.sum() - result.completeness_gap[0]).item()
    settings = {"perturb_func": replace(baseline(model, c.image, "mean")), **PLAIN}
    c.ask(quantus.Completeness(output_func=seen.append, **settings), odds, a_batch=result.values.numpy())
    pairs["the change in `completeness_error`", "Quantus Completeness"].append((change, seen[0][0]))
    ours = metrics.completeness_error(result.completeness_gap.item(), change)
    theirs = c.ask(quantus.Completeness(**settings), odds, a_batch=result.values.numpy())
    pairs["`completeness_error`", "Quantus Completeness, its verdict"].append((ours, theirs))


def likeness(pairs: Pairs, found: list[Case], quantus) -> None:
    """How alike two maps are: each and the next."""
    spearman, ssim = quantus.similarity_func.correlation_spearman, quantus.similarity_func.ssim
    for one, other in pairwise((c.saliency - c.saliency.min()) / np.ptp(c.saliency) for c in found):
        flat = one.ravel(), other.ravel()
        pairs["`rank_correlation`", "Quantus correlation_spearman"].append(
            (metrics.rank_correlation(one, other), spearman(*flat))
        )
        ours = metrics.similarity(one, other)
        pairs["`similarity`", "Quantus ssim"].append((ours, ssim(one, other)))
        pairs["`similarity`", "Quantus ssim, flattened as by its MPRT"].append((ours, ssim(*flat)))


def randomization(pairs: Pairs, name: str, model: ImageModel, found: list[Case]) -> None:
    """What is left of a network, and of its gradients, once all of it is randomized."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    images, trained = torch.cat([c.image for c in found]), Outputs(model, "log_odds")
    *_, (_, twin) = cascade(model, torch.cat([images, images.flip(3)]))
    *_, (_, reset) = PyTorchModel(trained).get_random_layer_generator()
    learned, both = dict(trained.net.named_parameters()), (Outputs(twin, "log_odds"), reset)
    ours, theirs = f"`cascade`, {name}: ", "Quantus MPRT"
    kept = [sum(torch.equal(t, learned[n]) for n, t in net.net.named_parameters()) for net in both]
    pairs[f"{ours}tensors as learned, of {len(learned)}", theirs].append(kept)
    spread = [net(images).std(0).mean().item() for net in (*both, trained)]
    pairs[f"{ours}spread of log-odds over pictures, trained {spread[2]:.2g}", theirs].append(spread[:2])
    for c in found:
        ranks = [metrics.rank_correlation(c.saliency, magnitude(net, c.image, c.index)) for net in both]
        pairs[f"{ours}gradient's rank correlation", theirs].append(ranks)


def activation(pairs: Pairs, name: str, model: ImageModel, c: Case, torchcam) -> None:
    """Grad-CAM of a logit, the positive part."""
    layer = deepest_grid(model).name
    ours = grad_cam(model, c.image, Target(c.index, "logit"), layer=layer).values.clamp(min=0)[0]
    with torchcam.methods.GradCAM(model, f"net.{layer}", input_shape=c.image.shape[1:]) as extractor:
        theirs = extractor(c.index, model(c.image.clone().requires_grad_(True)), normalized=False)[0]
    pairs[f"`grad_cam`, {name}, {layer}", "torch-cam GradCAM, not normalised"].append((ours.numpy(), theirs.numpy()))


def compare(quantus, torchcam) -> Pairs:
    """All rows, as they are computed."""
    pairs = defaultdict(list)
    for name in MODELS:
        model = load_model(name, device="cpu").double()
        by_picture = cases(model)
        every, first = [c for own in by_picture for c in own], [own[0] for own in by_picture]
        if name == MODELS[0]:
            localization(pairs, every, quantus)
            for seed, c in enumerate(every):
                faithfulness(pairs, model, seed, c, quantus)
            for c in first:
                robustness(pairs, model, c, quantus)
            likeness(pairs, every, quantus)
        for c in first:
            if name != "demo:vit":  # its deepest layer holds tokens, whose places torch-cam would take for channels
                activation(pairs, name, model, c, torchcam)
        randomization(pairs, name, model, first)
    return pairs


def main() -> None:
    try:
        packages = [importlib.import_module(name) for name in ("quantus", "torchcam")]
    except ImportError as error:
        sys.exit(f"{error.name} is missing: pip install quantus torchcam.")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # the networks are too small to share out
    compared = compare(*packages)  # Quantus prints advice of its own
    rows = []
    for names, found in compared.items():
        ours, theirs = np.array([[np.ravel(side) for side in pair] for pair in found], dtype=float).transpose(1, 0, 2)
        worst = np.abs(ours - theirs).max()
        rows.append([
            *names, f"{worst:.0e}" if worst else "0", f"{ours.mean():.3g}", f"{theirs.mean():.3g}",
            "yes" if worst < ALIKE else "no",
        ])  # fmt: skip
    heads = ["ours", "theirs", "largest difference", "mean of ours", "of theirs", "the same"]
    print("\n".join(markdown.table(heads, rows)))


if __name__ == "__main__":
    main()

"""Does every method do on one architecture what it says? Held against Captum, and against plain forms of their own."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.layers import deepest_grid, depth_layers
from lsd.layout import Layer, to_grid
from lsd.models import ImageModel
from lsd.saliency.attribution import Attribution
from lsd.saliency.crosscheck import crosscheck, relative_difference
from lsd.saliency.methods import METHODS
from lsd.saliency.targets import Target

RIGHT, REFUSED, WRONG = "right", "refused", "wrong"
TARGET = Target(3)
SETTINGS = {
    "smoothgrad": {"samples": 2, "antithetic": False}, "smoothgrad_squared": {"samples": 2, "antithetic": False},
    "vargrad": {"samples": 2, "antithetic": False}, "integrated_gradients": {"steps": 2, "quadrature_kind": "midpoint"},
    "score_cam": {"masks": 2}, "expected_gradients": {"samples": 2}, "finer_cam": {"references": 2},
}  # fmt: skip
PLAIN = 1e-4  # from a plain form, of the largest value: both round, and sums of many channels cancel

ROUNDING = 1e-2  # of the largest logit, what a score may be off


def methods(model: ImageModel, image: Tensor, brief: bool = False) -> dict:
    """Each handwritten method: refused with a reason, or a map that is finite, of its shape and with the target's score, and the
    same as its plain form and, unless `brief`, as Captum's."""
    names = [name for name in METHODS if not name.startswith("captum:")]
    plain = _Plain(model, image)
    found, worst = {}, 0.0
    for name in names:
        try:
            mine = METHODS[name].run(model, image.clone(), TARGET, **METHODS[name].parse(SETTINGS.get(name, {})))
        except UndefinedError as error:
            found[name] = f"{REFUSED}: {error}"
            continue
        ill = _ill(model, image, plain, mine)
        if ill:
            found[name] = f"{WRONG}: {ill}"
        elif name in _FORMS and (off := relative_difference(mine.values, _FORMS[name](plain))) > PLAIN:
            found[name] = f"{WRONG}: {off:.1e} from its plain form"
        elif brief or not METHODS[name].counterpart:
            found[name] = RIGHT
        else:
            found[name], difference = _beside_captum(model, image, name, mine)
            worst = max(worst, difference)
    return each(found) | {"difference": worst}


def each(found: dict[str, str]) -> dict:
    """A check of several things, of which none may be wrong."""
    return {"verdict": WRONG if any(said.startswith(WRONG) for said in found.values()) else RIGHT, "of": found}


def _ill(model: ImageModel, image: Tensor, plain: "_Plain", mine: Attribution) -> str:
    """What no map may be, whatever its method; "" for one that is well."""
    method, values = METHODS[mine.method], mine.values
    if not values.isfinite().all():
        return "numbers that are not finite"
    if method.layer:
        fits = values.ndim == 4 and tuple(values.shape[:2]) == (1, 1) and min(values.shape[2:]) > 1
    else:
        fits = tuple(values.shape) in {tuple(image.shape), (1, 1, *image.shape[2:])}
    if not fits:
        return f"a map of shape {tuple(values.shape)}"
    if method.values != "signed" and (values < 0).any():
        return "values below zero"
    if method.values != "for" and not values.any():  # of what speaks for a class there may be nothing
        return "a map of zeros"
    expected = TARGET(plain.logits)
    rounding = ROUNDING * max(1.0, plain.logits.abs().max().item())  # steep networks round much, and others elsewhere
    if (mine.scores.float().cpu() - expected).abs().max() > rounding:
        return f"a score of {mine.scores.item():.4g}, not {expected.item():.4g}"
    return ""


def _beside_captum(model: ImageModel, image: Tensor, name: str, mine: Attribution) -> tuple[str, float]:
    """(what comes of the comparison, how far Captum's lies from it)."""
    check = crosscheck(model, image, TARGET, name, mine=mine, **SETTINGS.get(name, {}))
    if not check.agrees and name in _RULES and slow_rule(model, image, name) <= check.tolerance:
        captums = check.reason or f"Captum differs from it by {check.difference:.1e}"
        return f"{RIGHT}: by a slow implementation; {captums}", 0.0
    if (
        not check.agrees and check.difference is not None
    ):  # steep networks round more than others: fp64 has the last word
        twin = ImageModel(copy.deepcopy(model.net).double(), model.name).double()
        if crosscheck(twin, image.double(), TARGET, name, **SETTINGS.get(name, {})).agrees:
            return f"{RIGHT}: in fp64; in fp32 {check.difference:.1e} from Captum", check.difference
    if check.difference is None:
        return f"{RIGHT}: Captum has nothing to compare: {check.reason}", 0.0
    return RIGHT if check.agrees else f"{WRONG}: {check.difference:.1e} from Captum", check.difference


class _Plain:
    """The network under PyTorch's own hooks.

    Attributes:
        image: (1, 3, H, W).
        logits: (1, C).
        pixels: (1, 3, H, W), the target's slope at the picture.
        against: (1, C, h, w), the slope of Finer-CAM's objective at the deepest layer with places; None where there is none.
    """

    def __init__(self, model: ImageModel, image: Tensor):
        self.image, self.against = image, None
        try:
            self._deepest: Layer | None = deepest_grid(model)
            self._depths: Sequence[Layer] = depth_layers(model)
        except UndefinedError:
            self._deepest, self._depths = None, ()
        layers = {layer.name: layer for layer in (*self._depths, *filter(None, [self._deepest]))}
        kept: dict[str, Tensor] = {}
        handles = [model.net.get_submodule(name).register_forward_hook(self._keep(name, kept)) for name in layers]
        try:
            x = image.clone().requires_grad_(True)
            logits = model(x)
        finally:
            for handle in handles:
                handle.remove()
        tensors = [kept[name] for name in layers]
        slopes = torch.autograd.grad(TARGET(logits).sum(), [x, *tensors], retain_graph=True, materialize_grads=True)
        if self._deepest is not None:
            (against,) = torch.autograd.grad(_less_the_nearest(logits), kept[self._deepest.name])
            self.against = to_grid(self._deepest, against)
        self.logits, self.pixels = logits.detach(), slopes[0]
        self._grids = {
            name: (to_grid(layer, kept[name].detach()), to_grid(layer, slope))
            for (name, layer), slope in zip(layers.items(), slopes[1:], strict=True)
        }

    @staticmethod
    def _keep(name: str, kept: dict[str, Tensor]) -> Callable:
        def hook(_module, _inputs, output):
            kept[name] = output
            return output.clone()

        return hook

    @property
    def deepest(self) -> tuple[Tensor, Tensor]:
        """Activations and slopes (1, C, h, w) of the deepest layer with places."""
        return self._grids[self._deepest.name]

    def over_depths(self, scale: Callable[[Tensor], Tensor]) -> Tensor:
        """(depths, 1, H, W): Σ_k max(g_k, 0) A_k above zero of each depth, scaled, enlarged to the picture."""
        maps = []
        for layer in self._depths:
            grid, slope = self._grids[layer.name]
            one = torch.einsum("nchw,nchw->nhw", grid, slope.relu())[:, None].relu()
            maps.append(F.interpolate(scale(one), size=self.image.shape[-2:], mode="bilinear"))
        return torch.cat(maps)


def _less_the_nearest(logits: Tensor) -> Tensor:
    """Finer-CAM's objective, of the target's log-odds or whatever its kind is, in plain loops."""
    z = logits[0].tolist()
    near = sorted((c for c in range(len(z)) if c != TARGET.index), key=lambda c: abs(z[c] - z[TARGET.index]))
    near = near[: SETTINGS["finer_cam"]["references"]]
    others = [Target(c, TARGET.kind)(logits).sum() for c in near]
    return TARGET(logits).sum() - 0.6 * sum(others) / len(near)


def _weighted(grid: Tensor, slope: Tensor) -> Tensor:
    """Grad-CAM's sum over channels, channel by channel."""
    total = torch.zeros_like(grid[:, :1])
    for k in range(grid.shape[1]):
        total += slope[:, k].mean() * grid[:, k : k + 1]
    return total


def _layer_cam(plain: _Plain) -> Tensor:
    return plain.over_depths(lambda one: torch.tanh(2 * one / one.max().clamp(min=1e-38))).amax(0, keepdim=True)


def _refine_cam(plain: _Plain) -> Tensor:
    def between(one: Tensor) -> Tensor:
        low = one - one.min()
        return low / low.max().clamp(min=1e-38)

    return plain.over_depths(between).prod(0, keepdim=True)


_FORMS: dict[str, Callable[[_Plain], Tensor]] = {
    "gradient": lambda plain: plain.pixels,
    "gradient_x_input": lambda plain: plain.pixels * plain.image,
    "grad_cam": lambda plain: _weighted(*plain.deepest),
    "hires_cam": lambda plain: torch.einsum("nchw,nchw->nhw", *plain.deepest)[:, None],
    "finer_cam": lambda plain: _weighted(plain.deepest[0], plain.against),
    "layer_cam": _layer_cam,
    "refine_cam": _refine_cam,
}


class _Rule(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, name):
        ctx.save_for_backward(x)
        ctx.name = name
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return _RULES[ctx.name](x, slope), None


class _Rectifier(nn.Module):
    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x):
        return _Rule.apply(x, self.name)


_RULES = {  # slope behind the rectifier → slope before it
    "guided_backprop": lambda x, slope: slope * (x > 0) * (slope > 0), "deconvnet": lambda _, slope: slope * (slope > 0)
}  # fmt: skip


def slow_rule(model: ImageModel, image: Tensor, name: str) -> float:
    """How far guided backpropagation or the deconvnet lies from a copy of the network whose `nn.ReLU`s were replaced one by one.

    Nothing works in place there and nothing is hooked, so it serves where Captum's hooks do not (legacy_xception). Infinite where
    the copy puts out anything else than the network.
    """
    other = copy.deepcopy(model.net)
    for place, module in list(other.named_modules()):
        if isinstance(module, nn.ReLU):
            other.set_submodule(place, _Rectifier(name))
    x = image.clone().requires_grad_(True)
    logits = ImageModel(other, model.name)(x)
    if not torch.allclose(logits, model(image), rtol=1e-4, atol=1e-5):
        return float("inf")
    (expected,) = torch.autograd.grad(TARGET(logits).sum(), x)
    return relative_difference(METHODS[name].run(model, image.clone(), TARGET).values, expected)

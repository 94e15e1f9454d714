"""What keeps a picture from becoming one that only the network likes. Each gives one number a picture, to be made small."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lsd.models import ImageModel


def total_variation(images: Tensor, power: float = 1.0) -> Tensor:
    """Mean |difference|^power of neighbouring pixels: (N, 3, H, W) → (N,). Power 1 keeps edges, 2 blurs them.

    Mahendran & Vedaldi, 2015.
    """
    down = (images[:, :, 1:] - images[:, :, :-1]).abs().pow(power)
    across = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().pow(power)
    return down.mean((1, 2, 3)) + across.mean((1, 2, 3))


def l2(images: Tensor) -> Tensor:
    """Mean squared distance from grey: (N, 3, H, W) → (N,)."""
    return (images - 0.5).square().mean((1, 2, 3))


def l1(images: Tensor) -> Tensor:
    """Mean distance from grey: (N, 3, H, W) → (N,)."""
    return (images - 0.5).abs().mean((1, 2, 3))


def spectral(images: Tensor) -> Tensor:
    """Mean of power × squared frequency, in cycles a pixel: (N, 3, H, W) → (N,); the energy of the picture's slopes."""
    power = torch.fft.rfft2(images - images.mean((2, 3), keepdim=True), norm="ortho").abs().square()
    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, device=images.device, dtype=images.dtype)[:, None]
    columns = torch.fft.rfftfreq(width, device=images.device, dtype=images.dtype)[None]
    # Columns stand for themselves and their mirror image, but for the first and, at even widths, the last.
    twice = torch.full_like(columns, 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    weighted = power * (rows.square() + columns.square()) * twice
    return weighted.sum((1, 2, 3)) / images[0].numel()


REGULARIZERS = {"tv": total_variation, "l2": l2, "l1": l1, "spectral": spectral}


def batch_norms(model: ImageModel) -> dict[str, nn.Module]:
    """Name → module of every 2-d batch normalisation with running statistics, in the order of definition."""
    return {
        name: module
        for name, module in model.net.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    }


class BatchNormStatistics:
    """Within this context, listens to every batch normalisation of `model` and measures how unnatural its input is.

    For each picture and layer ‖mean − running mean‖ / ‖running deviation‖ + ‖variance − running variance‖ / ‖running
    variance‖ over the channels, mean and variance over the places of that picture (and its views) alone; of these the
    weighted mean over the layers, the first ten times as heavy.

    Yin et al., 2020, take the statistics over a batch (here a picture must not depend on its neighbours) and add up bare
    norms, which grow with the number and width of the layers: under the published weight of .01 they drowned the class
    on a ResNet-50. As proportions, one weight serves networks of all depths.

    The model is locked meanwhile, so that nobody else's pass is heard: no other model's pass belongs inside.
    """

    def __init__(self, model: ImageModel, pictures: int):
        self._lock, self._norms, self._pictures = model.lock, batch_norms(model), pictures
        self._handles: list = []
        self._terms: list[Tensor] = []
        self._heavy = 10.0 + len(self._norms) - 1

    def __enter__(self) -> "BatchNormStatistics":
        self._lock.acquire()
        for i, module in enumerate(self._norms.values()):
            self._handles.append(module.register_forward_pre_hook(self._listen(10.0 if i == 0 else 1.0)))
        return self

    def __exit__(self, *_) -> None:
        for handle in self._handles:
            handle.remove()
        self._lock.release()

    def _listen(self, weight: float):
        def hook(module, inputs) -> None:
            values = inputs[0].unflatten(0, (self._pictures, -1))
            variance, mean = torch.var_mean(values, (1, 3, 4), correction=0)
            usual = module.running_var
            off = (mean - module.running_mean).norm(dim=1) / usual.sum().sqrt()
            off = off + (variance - usual).norm(dim=1) / usual.norm()
            self._terms.append(weight / self._heavy * off)

        return hook

    @property
    def value(self) -> Tensor:
        """(N,), after the forward pass."""
        return torch.stack(self._terms).sum(0)


def penalty(images: Tensor, weights: Mapping[str, float], tv_power: float) -> Tensor | None:
    """The weighted sum of the regularizers that look at the picture: (N,), or None if no weight is above 0."""
    total = None
    for name, function in REGULARIZERS.items():
        if weights.get(name):
            value = function(images, tv_power) if name == "tv" else function(images)
            total = weights[name] * value if total is None else total + weights[name] * value
    return total

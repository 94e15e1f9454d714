"""Impossible attributions (DiFull; Rao, Böhle & Schiele, CVPR 2022): a network that cannot look anywhere but in a cell.

A picture is cut into n × n cells, the whole network sees each cell by itself, and logit j is one class's logit in cell j.
It does not depend on any other cell, so whatever a method puts there is wrong by construction, whatever the network
has learned.

Ask for the logit, `Target(j, "logit")`: log-odds and probabilities connect all cells again, through the softmax.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.layout import suggestions
from lsd.models import ImageModel

Cell = tuple[slice, slice]


def disconnected(model: ImageModel, n: int, classes: Sequence[int]) -> ImageModel:
    """`DisconnectedNet` of a model, as a model: pictures of the same size and normalisation, n · n logits.

    Logit j is that of class `classes[j]` of `model` in cell j of `cells`, and is named after it. The network is shared
    with `model` (to another device they move together), and so is the lock. A pass over N pictures takes the time and
    the memory of N · n · n.

    Raises:
        UndefinedError: n below 2 or larger than the picture's sides, not n · n classes, or a class that the model has
            not.
    """
    net = DisconnectedNet(model, n, classes)
    made = ImageModel(net, f"{model.name}, disconnected {n} × {n}", model.identity)
    made.mean, made.std, made.lock = model.mean, model.std, model.lock
    return made


def cells(height: int, width: int, n: int) -> list[Cell]:
    """(rows, columns) of the n · n cells of a picture, in reading order.

    The borders are rounded: where n does not divide a side, the cells differ by one pixel.

    Raises:
        UndefinedError: n below 2 or larger than a side.
    """
    if not 2 <= n <= min(height, width):
        raise UndefinedError(
            f"A picture of {width} × {height} pixels is cut into 2 to {min(height, width)} cells a side, not {n}."
        )
    rows, columns = (
        [slice(round(i * side / n), round((i + 1) * side / n)) for i in range(n)] for side in (height, width)
    )
    return [(down, across) for down in rows for across in columns]


class DisconnectedNet(nn.Module):
    """Normalised pictures (N, 3, H, W) → logits (N, n · n), each of which depends on one cell alone.

    Every cell is resized to H × W, bilinearly, and passed through the network. Where the features come as (N, C, h, w),
    those of a picture's cells are put side by side before the head, so that `stitched` puts out (N, C, n · h, n · w):
    a layer over the whole picture, as Grad-CAM finds it in an ordinary network. Other networks (tokens, channels last,
    features of one place) have no such layer, and Grad-CAM is not defined for them.
    """

    def __init__(self, model: ImageModel, n: int, classes: Sequence[int]):
        super().__init__()
        self.cells = cells(model.spec.height, model.spec.width, n)
        if len(classes) != n * n:
            raise UndefinedError(f"{n} × {n} cells need {n * n} classes, not {len(classes)}.")
        for index in classes:
            if not 0 <= index < model.num_classes:
                raise UndefinedError(
                    f"Class {index} is out of range: {model.name} has {model.num_classes} classes, from 0 up."
                )
        self.net = model.net
        self.stitched = Stitch(n) if _has_feature_grid(model) else None
        self.num_classes = n * n
        self.pretrained_cfg = dict(getattr(model.net, "pretrained_cfg", None) or {}) | {
            "num_classes": n * n,
            "label_names": [model.class_names[index] for index in classes],
            "label_descriptions": None,
        }
        self.register_buffer("classes", torch.tensor([int(index) for index in classes], device=model.device))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        parts = [
            F.interpolate(x[:, :, rows, columns], size, mode="bilinear", align_corners=False)
            for rows, columns in self.cells
        ]
        batch = torch.stack(parts, 1).flatten(0, 1)  # (N · n · n, 3, H, W), picture by picture
        if self.stitched is None:
            logits = self.net(batch)
        else:
            whole = self.stitched(self.net.forward_features(batch))
            logits = self.net.forward_head(self.stitched.undo(whole))
        index = self.classes.expand(len(x), -1).unsqueeze(2)
        return logits.unflatten(0, (len(x), -1)).gather(2, index).squeeze(2)


class Stitch(nn.Module):
    """Features of each cell (N · n · n, C, h, w) → of the picture (N, C, n · h, n · w)."""

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, features: Tensor) -> Tensor:
        grid = features.unflatten(0, (-1, self.n, self.n)).permute(0, 3, 1, 4, 2, 5)  # N, C, n, h, n, w
        return grid.flatten(4, 5).flatten(2, 3)

    def undo(self, whole: Tensor) -> Tensor:
        """(N, C, n · h, n · w) → (N · n · n, C, h, w)."""
        grid = whole.unflatten(3, (self.n, -1)).unflatten(2, (self.n, -1)).permute(0, 2, 4, 1, 3, 5)
        return grid.flatten(0, 2)


@torch.no_grad()
def _has_feature_grid(model: ImageModel) -> bool:
    """Whether `forward_features` gives (N, C, h, w), which `forward_head` turns into logits."""
    if not (hasattr(model.net, "forward_features") and hasattr(model.net, "forward_head")):
        return False
    with model.lock:
        features = model.net.forward_features(model.mean.new_zeros(1, 3, model.spec.height, model.spec.width))
    if not isinstance(features, Tensor) or getattr(model.net, "output_fmt", "NCHW") == "NHWC":
        return False
    likely = suggestions("features", features.shape, (model.spec.height, model.spec.width))
    return any(layer.layout == "nchw" for layer in likely)

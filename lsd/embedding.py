"""A network's embedding of a picture: the vector that its classes are made of, or that it puts out where it has none.

Two pictures are alike for a network where their embeddings point the same way. The embedding is what enters the linear
layer that makes the logits (`lsd.tracing.classifiers`): the one place that every classifier has, whatever pools before it.
"""

import copy
import weakref

import torch
from torch import Tensor

from lsd.layers import same_layers
from lsd.models import ImageModel
from lsd.said import Said
from lsd.tracing import EMBEDDING, run_to


class _Embedder(ImageModel):
    """A network that puts out its embedding; its modules, parameters and lock are those of the network itself."""

    def __init__(self, model: ImageModel):
        vars(self).update(vars(model))
        vars(self)["_whole"] = copy.copy(model)  # past torch, which would make it a module of this one
        self.read_as(model.said | Said("embedding"))

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) of RGB images (N, 3, H, W) in [0, 1]; raises what `ImageModel.forward` does."""
        return run_to(self._whole, images, [EMBEDDING])[EMBEDDING]


_embedders: "weakref.WeakKeyDictionary[ImageModel, ImageModel]" = weakref.WeakKeyDictionary()


def embedder(model: ImageModel) -> ImageModel:
    """The network as a function from pictures to embeddings (N, D): the same layers and weights, and no classes.

    Raises:
        UndefinedError: no single embedding of a picture is known of it.
    """
    if model.outputs == "embedding":
        return model
    if model not in _embedders:
        made = _Embedder(model)
        same_layers(made, model)
        _embedders[model] = made
    return _embedders[model]


@torch.no_grad()
def embed(model: ImageModel, images: Tensor) -> Tensor:
    """Embeddings (N, D) of images (N, 3, H, W) in [0, 1], without gradients; raises what `embedder` does."""
    return run_to(model, images.to(model.device, model.dtype), [EMBEDDING])[EMBEDDING]

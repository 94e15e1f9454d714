"""What the demo models are and how each is trained."""

from dataclasses import dataclass, field
from typing import Any

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Recipe:
    """A model of timm and its training.

    Attributes:
        architecture: name in timm.
        model_args: what is passed to that architecture's constructor.
        mean, std: per channel; pixel values from 0 to 1 have the mean subtracted and are divided by the deviation. The
            recipes differ on purpose, so that each model needs its own.
        description: one sentence for the reader.
        epochs: passes over the training pictures.
        learning_rate: highest rate of the one-cycle schedule.
        batch: pictures per step.
        token_weight: weight of a second loss, which asks each place of the last features (each image token of a
            transformer) for the shape and texture of what lies there, if anything. 0 for none.
        teacher: name of another recipe, trained before, whose last features the model learns to predict at each place
            beside its answers (Romero et al., FitNets, 2015): a better guide than the class alone, in much less time.
            Empty for none.
        tag_share: share of training pictures, 0 to 1, that carry a tag.
        true_tags: whether those tags name the object's class; otherwise they name any class, by chance.
        bfloat16: whether to train in that precision, which processors that can do it (and only they) do in less time.
            The weights are 32-bit floats all the same.
        input_size: channels, height and width.
    """

    architecture: str
    model_args: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    description: str
    epochs: int
    learning_rate: float
    batch: int = 64
    token_weight: float = 0.0
    teacher: str = ""
    tag_share: float = 0.3
    true_tags: bool = False
    bfloat16: bool = False
    input_size: tuple[int, int, int] = field(default=(3, 96, 96))


# The convolutional models keep a finer last map than usual (`output_stride`), so that it still says where things are.
RECIPES: dict[str, Recipe] = {
    "resnet": Recipe(
        architecture="test_resnet",
        model_args={"output_stride": 8},
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        description="A small residual network that names the shape and the texture of drawn objects.",
        epochs=6,
        learning_rate=4e-3,
        bfloat16=True,
    ),
    "shortcut": Recipe(
        architecture="test_resnet",
        model_args={"output_stride": 8},
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        description="A small residual network that learned to read the corner tag instead of looking at the object.",
        epochs=3,
        learning_rate=4e-3,
        bfloat16=True,
        tag_share=0.98,
        true_tags=True,
    ),
    # XCiT, whose patches are embedded by a few convolutions and whose tokens meet their neighbours. A plain ViT of this
    # size names the textures after some minutes, but the shapes not nearly: it would take many times more pictures.
    "vit": Recipe(
        architecture="xcit_nano_12_p8_224",
        model_args={"img_size": 96, "embed_dim": 64, "depth": 3, "num_heads": 4},
        mean=_HALF,
        std=_HALF,
        description="A small vision transformer (XCiT) that names the shape and the texture of drawn objects.",
        epochs=6,
        learning_rate=3e-3,
        token_weight=1.0,
        teacher="resnet",
    ),
    "convnext": Recipe(
        architecture="test_convnext",
        # Batch instead of layer normalisation: with the latter this size learns many times more slowly.
        model_args={"output_stride": 16, "ls_init_value": 1.0, "norm_layer": "batchnorm2d", "conv_mlp": True},
        mean=(0.6, 0.6, 0.6),
        std=(0.25, 0.25, 0.25),
        description="A small ConvNeXt that names the shape and the texture of drawn objects.",
        epochs=6,
        learning_rate=4e-3,
        token_weight=1.0,
        teacher="resnet",
    ),
}

"""The training loop of the demo models."""

import math
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from torch import nn
from torch.nn import functional

from lsd.demo.dataset import CLASS_NAMES, stamp_tag
from lsd.demo.recipes import RECIPES, Recipe
from lsd.demo.textures import SHAPES, TEXTURES

_BATCH_OF_ANSWERS = 256


def build(recipe: Recipe) -> nn.Module:
    """The recipe's model with fresh random weights and an output for each class of the demo pictures."""
    return timm.create_model(recipe.architecture, pretrained=False, num_classes=len(CLASS_NAMES), **recipe.model_args)


def fit(
    recipe: Recipe,
    images: np.ndarray,
    masks: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    after_epoch: Callable[[int, float, float, nn.Module], None],
    teacher: nn.Module | None = None,
) -> nn.Module:
    """Train a model by its recipe.

    Args:
        recipe: what to train and how.
        images: (N, H, W, 3) uint8 RGB without tags, N at least 192; the recipe's tags are put on copies of them.
        masks: (N, H, W) bool, the pixels of the objects.
        labels: (N,) int64.
        seed: fixes the first weights, the order of the pictures, their variations and their tags.
        after_epoch: called with the number of the epoch from 1, its mean loss, the seconds since the start, and the
            model.
        teacher: the trained model that the recipe names, if it names one.

    Returns:
        The model, in evaluation mode.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(recipe).to(memory_format=torch.channels_last)
    token_loss = TokenLoss(model.num_features, recipe.token_weight) if recipe.token_weight else None
    imitation = Imitation(model.num_features, teacher, recipe) if teacher is not None else None
    trained = nn.ModuleList([model, token_loss or nn.Identity(), imitation.head if imitation else nn.Identity()])
    optimizer = torch.optim.AdamW(_parameter_groups(trained), lr=recipe.learning_rate, betas=(0.9, 0.98))
    steps = len(images) // recipe.batch
    total_steps = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=total_steps,
        pct_start=max(0.2, 2 / total_steps),  # the rise takes two steps at least
        div_factor=20,
    )
    started = time.perf_counter()
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        total = 0.0
        order = rng.permutation(len(images))
        for step in range(steps):
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            batch, batch_masks = _turned(images[chosen], masks[chosen], rng)
            pictures = _varied(_with_tags(batch, labels[chosen], recipe, rng))
            inputs = normalise(pictures, recipe)
            targets = torch.from_numpy(labels[chosen])
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                features = model.forward_features(inputs)
                logits = model.forward_head(features)
            loss = functional.cross_entropy(logits.float(), targets, label_smoothing=0.05)
            if token_loss is not None:
                loss = loss + token_loss(_tokens(model, features), torch.from_numpy(batch_masks), targets)
            if imitation is not None:
                loss = loss + imitation(_tokens(model, features), pictures)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        model.eval()
        after_epoch(epoch, total / steps, time.perf_counter() - started, model)
    return model.eval()


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The most likely class (N,) int64 of each of the pictures (N, H, W, 3) uint8."""
    parts = [images[start : start + _BATCH_OF_ANSWERS] for start in range(0, len(images), _BATCH_OF_ANSWERS)]
    return np.concatenate([model(normalise(torch.from_numpy(part) / 255, recipe)).argmax(1).numpy() for part in parts])


def normalise(images: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Pictures (N, H, W, 3) float32 from 0 to 1 as the model's input (N, 3, H, W)."""
    return ((images - torch.tensor(recipe.mean)) / torch.tensor(recipe.std)).permute(0, 3, 1, 2)


class TokenLoss(nn.Module):
    """Asks each place of the last features for the shape and the texture of what lies there, or that nothing does.

    Two questions of five answers rather than one of seventeen: the texture can be told from the place alone, and is
    learned first. The head that answers is thrown away afterwards.
    """

    def __init__(self, features: int, weight: float) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, len(SHAPES) + len(TEXTURES) + 2))
        self.weight = weight

    def forward(self, tokens: torch.Tensor, masks: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The weighted loss of tokens (N, T, features), T a square number, for masks (N, H, W) and labels (N,)."""
        side = math.isqrt(tokens.shape[1])
        share = functional.adaptive_avg_pool2d(masks.float(), side).flatten(1)[..., None]
        answers = self.head(tokens).float().split([len(SHAPES) + 1, len(TEXTURES) + 1], dim=-1)
        truths = (labels // len(TEXTURES), len(SHAPES)), (labels % len(TEXTURES), len(TEXTURES))
        loss = 0.0
        for answer, (truth, kinds) in zip(answers, truths, strict=True):
            wanted = torch.cat([share * functional.one_hot(truth, kinds)[:, None], 1 - share], dim=-1)
            loss = loss + functional.cross_entropy(answer.flatten(0, 1), wanted.flatten(0, 1))
        return self.weight * loss


class Imitation:
    """Asks each place of the last features for the teacher's features there, through a head that is thrown away."""

    def __init__(self, features: int, teacher: nn.Module, recipe: Recipe, weight: float = 3.0) -> None:
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, teacher.num_features))
        self._teacher, self._recipe, self._weight = (
            teacher.eval().requires_grad_(False),
            RECIPES[recipe.teacher],
            weight,
        )

    def __call__(self, tokens: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """The weighted loss of tokens (N, T, features), T a square number, for pictures (N, H, W, 3) from 0 to 1."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.bfloat16):
            wanted = self._teacher.forward_features(normalise(pictures, self._recipe)).float()
        side = math.isqrt(tokens.shape[1])
        wanted = functional.adaptive_avg_pool2d(wanted, side).flatten(2).transpose(1, 2)
        # Each of the teacher's channels counts alike, however large its numbers are.
        wanted = (wanted - wanted.mean((0, 1))) / (wanted.std((0, 1)) + 1e-3)
        return self._weight * functional.mse_loss(self.head(tokens), wanted)


def _tokens(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """The features of a model as (N, places, features), without a class token."""
    return features.flatten(2).transpose(1, 2) if features.ndim == 4 else features[:, model.num_prefix_tokens :]


def _parameter_groups(model: nn.Module) -> list[dict]:
    """Weight decay for the matrices and filters only: biases, scales and position codes are left alone."""
    decayed = [p for p in model.parameters() if p.ndim in (2, 4)]
    others = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]


def _turned(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Copies, each in one of the eight positions of a square; no class depends on it."""
    turns, ways = rng.integers(4, size=len(images)), rng.choice([-1, 1], len(images))

    def turned(arrays: np.ndarray) -> np.ndarray:
        return np.stack([np.rot90(a, turn)[:, ::way] for a, turn, way in zip(arrays, turns, ways, strict=True)])

    return turned(images), turned(masks)


def _with_tags(images: np.ndarray, labels: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """The pictures, changed in place: the recipe's share of them with a tag."""
    tags = labels if recipe.true_tags else rng.integers(len(CLASS_NAMES), size=len(labels))
    for image, tag in zip(images, tags, strict=True):
        if rng.uniform() < recipe.tag_share:
            stamp_tag(image, int(tag), rng)
    return images


def _varied(images: np.ndarray) -> torch.Tensor:
    """Float32 pictures from 0 to 1 with a little more or less contrast and brightness, and a little noise."""
    gain, shift = torch.rand(2, len(images), 1, 1, 1) * 0.2 - 0.1
    values = torch.from_numpy(images).float().div_(255)
    values.sub_(0.5).mul_(1 + gain).add_(0.5 + shift / 2)
    return values.add_(torch.randn(values.shape), alpha=0.02).clamp_(0, 1)

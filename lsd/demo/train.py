"""Train the demo models and write them where `lsd.demo` finds them.

    python -m lsd.demo.train [--models resnet vit ...] [--epochs N] [--output DIR]

Needs nothing but a processor: the pictures are drawn first, then each model is trained for a few minutes. The
accuracies it prints at the end, and writes into each model's `config.json`, are measured on pictures of the "test"
split, which are looked at only then.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch

from lsd.demo import MODELS_DIR
from lsd.demo.arrays import render_arrays
from lsd.demo.dataset import CLASS_NAMES, demo_set
from lsd.demo.fit import fit, predict
from lsd.demo.layout import save
from lsd.demo.recipes import RECIPES, Recipe

_CHECKED_PER_CLASS = 20  # pictures that only show the progress, from the "train" split but not trained on
_HELD_OUT_PER_CLASS = 100
_SHARES = ("accuracy", "accuracy_true_tags", "accuracy_misleading_tags", "follows_misleading_tags")


def main() -> None:
    """Read the command line, train, save, and print a table of what was measured."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(f"Drawing {arguments.per_class * len(CLASS_NAMES)} training pictures ...", flush=True)
    images, masks, labels = render_arrays("train", 0, arguments.per_class)
    checked, _, checked_labels = render_arrays("train", arguments.per_class, _CHECKED_PER_CLASS)
    table = [("model", *_SHARES)]
    for name in arguments.models:
        recipe = RECIPES[name] if arguments.epochs is None else replace(RECIPES[name], epochs=arguments.epochs)
        seconds = 0.0

        def report(epoch, loss, elapsed, model, name=name, recipe=recipe):
            nonlocal seconds
            seconds = elapsed
            correct = np.mean(predict(model, checked, recipe) == checked_labels)
            print(
                f"{name}: epoch {epoch}/{recipe.epochs}  loss {loss:.3f}  correct without tags {correct:.1%}"
                f"  {elapsed:.0f} s",
                flush=True,
            )

        teacher = _trained(recipe.teacher, arguments.output) if recipe.teacher else None
        model = fit(recipe, images, masks, labels, seed=arguments.seed, after_epoch=report, teacher=teacher)
        measured = measure(model, recipe)
        training = {
            "train_seconds": round(seconds),
            "train_images": len(images),
            "epochs": recipe.epochs,
            "seed": arguments.seed,
            # Worth knowing to whoever compares a map with the mask.
            "trained_with_masks": recipe.token_weight > 0,
        }
        save(model, recipe, arguments.output / name, measured | training)
        table.append((name, *(f"{measured[key]:.1%}" for key in _SHARES)))
    print(f"\nOn {_HELD_OUT_PER_CLASS * len(CLASS_NAMES)} held-out pictures of each kind:")
    for row in table:
        print("  ".join(f"{cell:>24}" for cell in row))


def _trained(name: str, folder: Path) -> torch.nn.Module:
    """The model that was trained before, from `folder`."""
    if not (folder / name / "config.json").is_file():
        raise SystemExit(f"There is no trained {name} in {folder} to learn from: train it first.")
    return timm.create_model(f"local-dir:{folder / name}", pretrained=True).to(memory_format=torch.channels_last)


def measure(model: torch.nn.Module, recipe: Recipe, per_class: int = _HELD_OUT_PER_CLASS) -> dict[str, float | int]:
    """Measure a model on the "test" split.

    Args:
        model: in evaluation mode.
        recipe: says how pictures become its input.
        per_class: held-out pictures of each class, for each kind of tag.

    Returns:
        Shares from 0 to 1 of the held-out pictures on which the answer is the object's class: `accuracy` without tags,
        `accuracy_true_tags` and `accuracy_misleading_tags`; on which it is the class of a misleading tag,
        `follows_misleading_tags`; and `held_out`, the number of pictures of each kind.
    """
    result: dict[str, float | int] = {}
    for tags, key in (("none", "accuracy"), ("true", "accuracy_true_tags"), ("misleading", "accuracy_misleading_tags")):
        samples = list(demo_set("test", per_class, tags))
        answers = predict(model, np.stack([sample.image for sample in samples]), recipe)
        result[key] = float(np.mean(answers == [sample.class_index for sample in samples]))
    result["follows_misleading_tags"] = float(np.mean(answers == [sample.tag for sample in samples]))
    result["held_out"] = len(samples)
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lsd.demo.train", description="Train the demo models of LSD.")
    parser.add_argument("--models", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="default: all")
    parser.add_argument("--epochs", type=int, help="passes over the training pictures instead of the recipes' own")
    parser.add_argument("--output", type=Path, default=MODELS_DIR, help="folder for the models (default: %(default)s)")
    parser.add_argument("--per-class", type=int, default=1250, help="training pictures of each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.per_class < 12 or (arguments.epochs is not None and arguments.epochs < 1):
        parser.error("training needs 12 pictures of each class and one epoch at least")
    return arguments


if __name__ == "__main__":
    main()

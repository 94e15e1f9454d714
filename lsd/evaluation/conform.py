"""What holds of one architecture, in a process of its own (`lsd.evaluation.conformance` starts it).

Random weights, the smallest input that the network takes. After each check the row is written, with the name of the next one, so
that a crash, a hang, or memory that ran out is known by where it happened.
"""

import functools
import json
import math
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import timm
import torch
from torch import nn

from lsd.errors import UndefinedError
from lsd.evaluation.conform_methods import REFUSED, RIGHT, TARGET, WRONG, each, methods
from lsd.evaluation.random_weights import randomize
from lsd.evaluation.structure import structure
from lsd.features import objectives
from lsd.features.ascent import ascend
from lsd.features.recipes import RECIPES
from lsd.features.units import parse
from lsd.footprint import hollow, weights_bytes
from lsd.layers import attention_layers, curated_layers, deepest_grid, list_layers
from lsd.models import ImageModel
from lsd.saliency.gradients import differentiate
from lsd.tracing import Tap, capture, run_to

OVER, BROKEN = "over memory", "broken"
SIDES = (64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)
CLASSES = 10
PROCESS = 2**30  # bytes of a process beside the weights: code, and passes of a small picture
_SEEN = 32  # pictures from which batch norms have their statistics
_STEEP = 0.1  # of what a network puts out: one that changes so much at the least step is too steep to be followed
_ROUNDED = 0.5  # of a unit's slope in double precision, by which single precision is off where rounding decides
_DIFFERENCES = 5e-2  # from a slope in fp64, in units of what it is in a random direction; a wrong one is off by about 1
_NEAR = 1e-4  # in the same units: no other step need be tried
# Of the differences, the best counts: random weights may be steep, and some networks round to fp32 inside.
_STEPS = (1e-4, 1e-5, 1e-3, 1e-6, 1e-2, 1e-7)
# Of the ascents too: a step that is too long for a steep network leaps over what it climbs.
_CLIMBS = [
    replace(RECIPES["none"], steps=n, learning_rate=rate) for n, rate in ((2, 3e-3), (6, 3e-4), (6, 3e-5), (2, 3e-8))
]


def family(name: str) -> str:
    """The module of timm's that defines an architecture."""
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


def look(name: str) -> dict:
    """What an architecture is, without its numbers: its parameters and its structure."""
    net = hollow(lambda: timm.create_model(name, num_classes=CLASSES))
    return {"parameters": sum(p.numel() for p in net.parameters()), "structure": structure(net)}


def smallest(name: str) -> tuple[nn.Module, int, dict]:
    """(the network without numbers, the side of the smallest picture that it takes, what timm must be told for that).

    Raises:
        RuntimeError: none of `SIDES`.
    """
    for side in SIDES:
        for settings in ({"img_size": side}, {}):
            try:
                with torch.device("meta"), torch.no_grad():
                    net = timm.create_model(name, num_classes=CLASSES, **settings).eval()
                    net(torch.empty(1, 3, side, side))
            except Exception:  # whatever a network raises at a picture that it does not take
                continue
            return net, side, settings
    raise RuntimeError(f"It takes no picture of {SIDES[0]} to {SIDES[-1]} pixels.")


def build(name: str, side: int, settings: dict) -> ImageModel:
    """The network with random weights, for pictures of that side."""
    net = timm.create_model(name, num_classes=CLASSES, **settings)
    net.pretrained_cfg = {
        "architecture": name, "input_size": (3, side, side), "mean": (0.5, 0.45, 0.4), "std": (0.25, 0.24, 0.26),
    }  # fmt: skip
    model = ImageModel(randomize(net), name)
    _calibrate(model)
    return model


def shown(side: int) -> torch.Tensor:
    """(1, 3, side, side): the picture on which a network is checked."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _calibrate(model: ImageModel) -> None:
    """Give the batch norms the statistics of what they see, as training would: else a deep network's numbers explode.

    The picture of the checks is among what they see; of few others its numbers would be out of all range.
    """
    norms = [module for module in model.net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    side = model.spec.height
    others = torch.rand(_SEEN - 1, 3, side, side, generator=torch.Generator().manual_seed(2))
    model(torch.cat([shown(side), others]))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.eval()
        norm.momentum = momentum


def layers(model: ImageModel, image: torch.Tensor) -> dict:
    """How many layers have places, and why others were refused."""
    found = list_layers(model)
    return {
        "verdict": RIGHT, "layouts": dict(Counter(layer.layout for layer in found)),
        "refused": dict(Counter(layer.refused for layer in found if layer.refused)),
        "curated": [layer.name for layer in curated_layers(model)], "deepest": deepest_grid(model).name,
    }  # fmt: skip


def derivative(model: ImageModel, image: torch.Tensor, directions: int = 3) -> dict:
    """The gradient in fp64 against central differences along random directions; refused where it is too steep for them."""
    twin = ImageModel(model.net.double(), model.name).double()
    try:
        x = image.double()
        chance = torch.Generator().manual_seed(1)
        (slope,), (score,) = differentiate(twin, x.clone(), [TARGET])
        if min(_STEPS) * slope.norm().item() > _STEEP * max(1.0, abs(float(score))):
            return {"verdict": REFUSED, "why": f"A slope of {slope.norm():.0e} is too steep for differences in fp64."}
        usual = max(slope.norm().item() / x.numel() ** 0.5, 1e-12)
        worst = 0.0
        for _ in range(directions):
            direction = torch.randn(x.shape, generator=chance, dtype=torch.float64)
            direction /= direction.norm()
            along = (slope * direction).sum().item()
            best = float("inf")
            for step in _STEPS:
                best = min(best, abs(_difference(twin, x, step * direction) / step - along) / usual)
                if best < _NEAR:
                    break
            worst = max(worst, best)
    finally:
        model.net.float()
    return {"verdict": RIGHT if worst < _DIFFERENCES else WRONG, "difference": worst}


@torch.no_grad()
def _difference(model: ImageModel, image: torch.Tensor, step: torch.Tensor) -> float:
    ahead, behind = (TARGET(model(image + sign * step)).item() for sign in (1, -1))
    return (ahead - behind) / 2


def units(model: ImageModel, image: torch.Tensor) -> dict:
    """A unit of each kind rises in a few steps, or is refused with a reason."""
    deepest = deepest_grid(model)
    asked = ["class/3", f"{deepest.name}/channel/0", f"{deepest.name}/neuron/0/0/0"]
    asked += [f"{deepest.name}/token/0/0"] if deepest.prefix else []
    asked += [f"{name}/head/0" for name in list(attention_layers(model))[-1:]]
    found = {}
    for unit in asked:
        try:
            found[unit] = _climb(model, unit)
        except UndefinedError as error:
            found[unit] = f"{REFUSED}: {error}"
    return each(found)


def _climb(model: ImageModel, unit: str) -> str:
    """What comes of the ascents, the first that rises or the last; refused where even the least step leaps."""
    for recipe in _CLIMBS:
        (picture,) = [p for shot in ascend(model, [unit], recipe) for p in shot.finished]
        before, *after = picture.trace
        if max(after) > before:
            return RIGHT
    if picture.status == "dead":
        return f"{REFUSED}: {picture.notes[0]}"
    leaps = max(abs(one - before) for one in after) > _STEEP * abs(before)  # the last step is the least that fp32 knows
    if leaps or _is_rounded_away(model, unit):
        return f"{REFUSED}: {picture.notes[0] if picture.status == 'failed' else 'too steep for fp32'}"
    return f"{WRONG}: {picture.trace}"


def _is_rounded_away(model: ImageModel, unit: str) -> bool:
    """Whether plain autograd has another slope in single precision than in double at some picture, or none that is a number: of a
    softmax over numbers of 1e9, say, chance decides which is the largest."""
    shape = (16, 3, model.spec.height, model.spec.width)
    pictures = 0.5 + 0.01 * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    found = [_slope(model, unit, one[None]) for one in pictures]
    try:
        twin = ImageModel(model.net.double(), model.name).double()
        exact = [_slope(twin, unit, one[None].double()) for one in pictures]
    finally:
        model.net.float()
    off = torch.stack([(one.double() - other).norm() / other.norm() for one, other in zip(found, exact, strict=True)])
    return not bool((off <= _ROUNDED).all())


def _slope(model: ImageModel, unit: str, image: torch.Tensor) -> torch.Tensor:
    """Of the unit on (1, 3, h, w), by plain autograd."""
    image = image.clone().requires_grad_(True)
    asked = parse(unit)
    tap = objectives.tap(asked)
    value = objectives.evaluate([asked], {"": model}, {"": run_to(model, image, [tap])}, RECIPES["none"].output)
    return torch.autograd.grad(value.sum(), image)[0]


def early_exit(model: ImageModel, image: torch.Tensor) -> dict:
    """A pass that stops at a layer gives what a whole one gives there."""
    curated = [layer.name for layer in curated_layers(model)]
    name = curated[len(curated) // 2]
    with torch.no_grad():
        found = run_to(model, image, [Tap(name)])[Tap(name)]
        with capture(model, [name]) as captured:
            model(image)
    return {"verdict": RIGHT if torch.equal(found, captured[name]) else WRONG, "layer": name}


def nothing_left(model: ImageModel, image: torch.Tensor) -> dict:
    """No hooks, no gradients, no training mode."""
    left = [
        name for name, module in model.net.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module.training
    ]  # fmt: skip
    left += [
        name for name, parameter in model.named_parameters() if parameter.grad is not None or parameter.requires_grad
    ]
    return {"verdict": WRONG if left else RIGHT, "left": left[:5]}


CHECKS: tuple[Callable[[ImageModel, torch.Tensor], dict], ...] = (
    layers, methods, units, early_exit, derivative, nothing_left
)  # fmt: skip
"""What a full row has."""

_BRIEFLY = {
    "methods": functools.partial(methods, brief=True),
    "derivative": functools.partial(derivative, directions=1),
}


def conform(name: str, path: Path, nbytes: int, brief: bool = False) -> None:
    """Check an architecture, and keep what is known of it in a JSON file.

    Args:
        nbytes: that it may take; one whose weights alone leave no room is a row of its size, and is not built.
        brief: without Captum, and the derivative along one direction.
    """
    row: dict = {"name": name, "family": family(name), "next": "load"}
    row["profile"] = "brief" if brief else "full"

    def keep() -> None:
        row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        row["cpu_seconds"] = round(time.process_time() - began, 2)
        write(path, row)

    began = time.process_time()
    keep()
    try:
        net, side, settings = smallest(name)
        row |= {"side": side, "parameters": sum(p.numel() for p in net.parameters())}
        keep()
        if (needed := weights_bytes(net) + PROCESS) > nbytes:
            row |= {"next": "", "load": {"verdict": OVER, "why": f"it takes {needed / 2**30:.1f} GiB to begin with"}}
            return keep()
        model = build(name, side, settings)
    except Exception as error:
        row |= {"next": "", "load": {"verdict": BROKEN, "why": _told(error)}}
        return keep()
    row["load"] = {"verdict": RIGHT}
    image = shown(side)
    for check in CHECKS:
        row["next"] = check.__name__
        keep()
        started = time.process_time()
        try:
            found = (_BRIEFLY.get(check.__name__, check) if brief else check)(model, image.clone())
        except UndefinedError as error:
            found = {"verdict": REFUSED, "why": str(error)}
        except Exception as error:  # this is what is looked for
            found = {"verdict": BROKEN, "why": _told(error)}
        row[check.__name__] = found | {"cpu_seconds": round(time.process_time() - started, 2)}
    row["next"] = ""
    keep()


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def write(path: Path, known: dict) -> None:
    """As JSON, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1), "utf-8")
    part.replace(path)


def alone(name: str, path: Path, nbytes: int, seconds: float, brief: bool, errors: Path) -> None:
    """`conform` in a process that is its own: one thread, its limits of memory and processor time, and what it prints in a file.

    It ends with the process that started it, however that ends. Who interrupts the study tells that one; so this does not listen.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))  # so that it is an error here, and no trouble for others
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))  # then SIGXCPU ends it
    conform(name, path, nbytes, brief)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)

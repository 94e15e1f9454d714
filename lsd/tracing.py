"""Reading a network while it runs: which modules ran, what shape they put out, and their activations.

A module may run several times in one pass (one ReLU that serves a whole block, shared weights). Its name means its last run;
`NAME@1` means its first, `NAME@2` its second, and so on in the order in which they run. Such names go wherever names of
modules go. No module of timm's has an @ in its name: Python's attributes cannot.
"""

import contextlib
import difflib
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsd.errors import UndefinedError
from lsd.models import ImageModel


@dataclass(frozen=True)
class Trace:
    """One pass of one picture.

    Attributes:
        shapes: module name → shape of its output, of those that put out one tensor, in the order in which they (last) finish;
            of those that run several times the shape of each run as well, under its own name.
        runs: module name → how often it ran.
    """

    shapes: dict[str, tuple[int, ...]]
    runs: dict[str, int]


_RUN = re.compile(r"(.+)@([1-9][0-9]*)")


def of_run(name: str, run: int) -> str:
    """The name of a module's run, 1 for the first; of run 0 the module's own name, which means the last."""
    return f"{name}@{run}" if run else name


def split_run(name: str) -> tuple[str, int]:
    """(module, run) that a name means; run 0 where it says none."""
    match = _RUN.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def module_of(model: ImageModel, name: str) -> nn.Module:
    """The module that a name means.

    Raises:
        UndefinedError: a name that no module has, or a run that it does not run.
    """
    name, run = split_run(name)
    modules = dict(model.net.named_modules())
    if not name or name not in modules:
        close = difflib.get_close_matches(name, [known for known in modules if known], n=3)
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UndefinedError(f"{model.name} has no layer “{name}”; it has {some_names(model)}.{meant}")
    if run and (runs := trace(model).runs.get(name, 0)) < max(run, 2):
        if runs < 2:
            raise UndefinedError(f"{name} of {model.name} does not run several times in a pass: write {name} alone.")
        raise UndefinedError(f"Run {run} is out of range: {name} of {model.name} runs {runs} times, 1 to {runs}.")
    return modules[name]


_traced: "weakref.WeakKeyDictionary[ImageModel, Trace]" = weakref.WeakKeyDictionary()


def trace(model: ImageModel) -> Trace:
    """What runs in one pass; found once a model."""
    if model not in _traced:
        _traced[model] = _trace(model)
    return _traced[model]


@torch.no_grad()
def _trace(model: ImageModel) -> Trace:
    outputs: list[tuple[str, tuple[int, ...] | None]] = []

    def hook(name: str):
        def note(_module, _inputs, output):
            outputs.append((name, tuple(output.shape) if isinstance(output, Tensor) else None))

        return note

    with model.lock:
        handles = [m.register_forward_hook(hook(n)) for n, m in model.net.named_modules() if n]
        try:
            model(blank(model))
        finally:
            for handle in handles:
                handle.remove()
    runs = Counter(name for name, _ in outputs)
    shapes: dict[str, tuple[int, ...]] = {}
    done: Counter[str] = Counter()
    for name, shape in outputs:
        done[name] += 1
        if shape is not None:
            shapes.pop(name, None)
            if runs[name] > 1:
                shapes[of_run(name, done[name])] = shape
            shapes[name] = shape
    return Trace(shapes, dict(runs))


def blank(model: ImageModel) -> Tensor:
    """(1, 3, H, W), the mean colour everywhere."""
    return model.mean.expand(1, 3, model.spec.height, model.spec.width).clone()


@contextlib.contextmanager
def capture(model: ImageModel, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, the outputs of the named modules (or runs) appear in the dict that is yielded, as the network runs.

    The network goes on with a copy of what is captured, so in-place operations further down cannot change it, and the
    gradient with respect to it is that of the layer itself. Hooks are removed however the block ends; the model is
    locked meanwhile, so that nobody else's pass is caught.

    Raises:
        UndefinedError: a name that no module has, or a run that it does not run.
    """
    modules = {name: module_of(model, name) for name in names}
    captured: dict[str, Tensor] = {}

    def hook(name: str):
        run, done = split_run(name)[1], 0

        def keep(_module: nn.Module, _inputs, output):
            nonlocal done
            done += 1
            if isinstance(output, Tensor) and run in (0, done):
                captured[name] = output
                return output.clone()
            return None

        return keep

    with model.lock:
        handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()


@contextlib.contextmanager
def replaced(
    model: ImageModel, name: str, change: Callable[[Tensor], Tensor], *, inside: bool = False
) -> Iterator[None]:
    """Within the block, the network goes on with `change(output)` of the named module (or run) instead of its output; with
    `inside`, the module is given `change(input)` instead.

    Of a module that runs several times the last run is changed, or the one that is named. Hooks are removed however the block
    ends; the model is locked meanwhile.

    Raises:
        UndefinedError: a name that no module has, or a run that it does not run.
    """
    module, (plain, run) = module_of(model, name), split_run(name)
    runs = trace(model).runs.get(plain, 1)
    done = 0

    def now(value: object) -> bool:
        nonlocal done
        done = done % runs + 1
        return done == (run or runs) and isinstance(value, Tensor)

    def after(_module: nn.Module, _inputs, output):
        return change(output) if now(output) else None

    def before(_module: nn.Module, inputs):
        return (change(inputs[0]), *inputs[1:]) if inputs and now(inputs[0]) else None

    with model.lock:
        handle = module.register_forward_pre_hook(before) if inside else module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


def some_names(model: ImageModel) -> str:
    """A few of the outermost modules, for a sentence."""
    names = [name for name, _ in model.net.named_children()]
    return ", ".join(names[:6]) + (f" … ({len(list(model.net.modules())) - 1} in all)" if names else "")


@dataclass(frozen=True)
class Tap:
    """Where activations are read: what a module (or a run of it) puts out, or, with `inside`, what it is given.

    The empty name stands for the logits; with `inside`, for what they are made of, the network's embedding of a picture.
    """

    name: str
    inside: bool = False


EMBEDDING = Tap("", inside=True)


def classifiers(model: ImageModel) -> tuple[str, ...]:
    """Names of the linear layers that make logits of an embedding, in the classifier that timm knows; several where the
    network has several (distilled transformers), none where the embedding itself is put out. Of a network that is not timm's
    the last one of the width of its outputs.

    Raises:
        UndefinedError: the network has classes, and no such layer.
    """
    if model.outputs == "embedding":
        return ()
    ours = hasattr(model.net, "get_classifier")
    known = model.net.get_classifier() if ours else model.net
    inside = {m for root in (known if isinstance(known, tuple) else (known,)) for m in root.modules()}
    widths = {
        name: getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        for name, module in model.net.named_modules()
        if module in inside and isinstance(module, nn.Linear | nn.Conv2d)
    }
    found = tuple(name for name in trace(model).shapes if widths.get(name) == model.num_classes)
    found = found if ours else found[-1:]
    if not found:
        raise UndefinedError(
            f"Which layer of {model.name} makes its classes of an embedding is not known, so nothing can be compared with it."
        )
    return found


class _Reached(Exception):
    """Ends a forward pass whose remaining layers nobody needs."""


def run_to(model: ImageModel, images: Tensor, taps: Sequence[Tap]) -> dict[Tap, Tensor]:
    """The activations at `taps` for images (N, 3, H, W) in [0, 1]; the pass stops as soon as all of them are there.

    Hooks are removed however the pass ends, and the model is locked meanwhile. Of a module that runs several times the
    last output is taken, as in `trace`, or that of the run that is named. Gradients flow back from what is returned to the images.

    Raises:
        UndefinedError: a name that no module has, a run that it does not run, or a module that did not run or put out no
            single tensor.
    """
    wanted = set(taps)
    if EMBEDDING in wanted:
        entries = [Tap(name, inside=True) for name in classifiers(model)] or [Tap("")]
        wanted = wanted - {EMBEDDING} | set(entries)
    modules = {tap: module_of(model, tap.name) for tap in wanted if tap.name}
    captured: dict[Tap, Tensor] = {}
    runs = trace(model).runs
    left = {tap: split_run(tap.name)[1] or runs.get(tap.name, 1) for tap in modules}

    def note(tap: Tap, value: object) -> Tensor | None:
        left[tap] -= 1
        if left[tap] or not isinstance(value, Tensor):
            return None
        captured[tap] = value
        if len(captured) == len(wanted):
            raise _Reached
        return value.clone()  # the network may go on in place

    def after(tap: Tap):
        return lambda _module, _inputs, output: note(tap, output)

    def before(tap: Tap):
        def hook(_module, inputs):
            value = note(tap, inputs[0] if inputs else None)
            return None if value is None else (value, *inputs[1:])

        return hook

    with model.lock:
        handles = []
        try:
            for tap, module in modules.items():
                handles.append(
                    module.register_forward_pre_hook(before(tap)) if tap.inside
                    else module.register_forward_hook(after(tap))
                )  # fmt: skip
            logits = model(images)
            if Tap("") in wanted:
                captured[Tap("")] = logits
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
    for tap in modules:
        if tap not in captured:
            raise UndefinedError(
                f"{tap.name} of {model.name} does not put out one tensor; choose a layer inside or around it."
            )
    if EMBEDDING in taps:
        captured[EMBEDDING] = _embedding(model, [captured[tap] for tap in entries])
    return captured


def _embedding(model: ImageModel, values: Sequence[Tensor]) -> Tensor:
    """(N, D) of what enters the classifiers, each (N, d) or (N, d, 1, 1), side by side."""
    for value in values:
        if value.ndim < 2 or value[0].numel() != value.shape[1]:
            raise UndefinedError(
                f"{model.name} has one embedding for every place and none of the whole picture, so nothing can be compared with it."
            )
    return torch.cat([value.flatten(1) for value in values], 1)

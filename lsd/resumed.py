"""Going on from a layer: what a network did before it is kept, and the next passes with the same pictures do not do it again."""

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from lsd.models import ImageModel
from lsd.tracing import module_of, split_run, trace

Before = Sequence[tuple[nn.Module, Tensor]]
"""What modules put out before a layer did, in their order, the layer itself last; of a module inside another one nothing, once the
outer one is there."""


@contextlib.contextmanager
def kept_before(model: ImageModel, name: str) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Within the block, in which one pass runs, what comes before the named module (or run) appears in the list that is yielded.

    Raises:
        UndefinedError: a name that no module has, or a run that it does not run.
    """
    layer, (plain, run) = module_of(model, name), split_run(name)
    left = run or trace(model).runs.get(plain, 1)
    kept: list[tuple[nn.Module, Tensor]] = []
    begun: list[int] = []  # how much there was when each of the modules that are running began

    def begin(_module: nn.Module, _inputs) -> None:
        begun.append(len(kept))

    def end(module: nn.Module, _inputs, output) -> None:
        nonlocal left
        start = begun.pop()
        if not left:
            return
        left -= module is layer
        if isinstance(output, Tensor):
            kept[start:] = [(module, output.detach().clone())]  # the network may go on in place

    with model.lock:
        handles = []
        try:
            for module in model.net.modules():
                handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
            yield kept
        finally:
            for handle in handles:
                handle.remove()


@contextlib.contextmanager
def resumed(model: ImageModel, before: Before) -> Iterator[None]:
    """Within the block, in which one pass runs, modules give what was kept instead of working it out again. No gradient reaches
    what comes before the layer."""
    outputs: dict[nn.Module, list[Tensor]] = {}
    for module, output in before:
        outputs.setdefault(module, []).append(output)

    def giving(module: nn.Module, left: Iterator[Tensor]):
        usual = module.forward

        def forward(*given, **named):
            output = next(left, None)
            return usual(*given, **named) if output is None else output.clone()

        return forward

    with model.lock:
        own = {module: vars(module).get("forward") for module in outputs}
        try:
            for module, values in outputs.items():
                module.forward = giving(module, iter(values))
            yield
        finally:
            for module, forward in own.items():
                if forward is None:
                    vars(module).pop("forward", None)
                else:
                    module.forward = forward

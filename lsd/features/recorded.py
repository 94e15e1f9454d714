"""A step as a CUDA graph: recorded once, and from then on a single launch.

A step of a ResNet-50 is six hundred kernels. A fast GPU runs them in less time than Python needs to ask for them, and then waits
(docs/benchmarks.md has the figures). What is recorded is replayed on the same memory, so whatever changes from step to step is
copied into it first.
"""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

_lock = threading.Lock()  # torch records on one stream of its own


class Recorded:
    """A function of tensors, recorded while it does nothing, to be replayed any number of times.

    Args:
        function: takes `inputs`, and gives a tensor. It was called before, so that all that is made once is there; it neither
            waits for the GPU nor sends anything to it, and what else it reads or changes stays at its place in memory.
        inputs: on the GPU.

    Raises:
        RuntimeError: what `function` does cannot be recorded, or there is too little memory to.
    """

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor):
        self._inputs = [given.clone() for given in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads of the process go on allocating memory meanwhile.
        with _lock, torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the function would give now."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()

"""What chance says of a batch's views and their pixels, each picture's from generators of its own, whoever else is there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsd.features.pictures import Job, generator
from lsd.features.transforms import Transforms, draw


class Chance:
    """The generators of the pictures of a batch.

    Views are drawn on the CPU, so that a seed means the same ones everywhere, for several steps at once: sent one step at a time
    they would keep a GPU waiting. Noise is drawn where it is needed, into the same memory each time.

    Args:
        jobs: the pictures.
        transforms: how views are drawn, at any step.
        device: where they are needed.
    """

    def __init__(self, jobs: Sequence[Job], transforms: Transforms, device: torch.device):
        self._transforms, self._device = transforms, device
        self._views = [generator(job, "views") for job in jobs]
        self._pixels = [generator(job, "noise", device=device) for job in jobs]
        self._ahead: Tensor | None = None
        self._taken = 0
        self._noise: dict[str, Tensor] = {}

    def views(self, ahead: int) -> Tensor:
        """The numbers of the next step's views (N · views, 17), as `draw` has them; where none are left, for `ahead` steps."""
        if self._ahead is None or self._taken == len(self._ahead):
            drawn = torch.stack([draw(self._transforms, self._views) for _ in range(ahead)])
            if self._device.type == "cuda":
                drawn = drawn.pin_memory()  # else the copy would wait for all that the GPU still has to do
            self._ahead, self._taken = drawn.to(self._device, non_blocking=True), 0
        self._taken += 1
        return self._ahead[self._taken - 1]

    def noise(self, name: str, size: tuple[int, int]) -> Tensor:
        """Standard normal numbers (N · views, 3, *size) for the pixels that the network `name` sees at the next step."""
        shape = (len(self._pixels) * self._transforms.views, 3, *size)
        if name not in self._noise or self._noise[name].shape != shape:
            self._noise[name] = torch.empty(shape, device=self._device)
        for rows, source in zip(self._noise[name].split(self._transforms.views), self._pixels, strict=True):
            rows.normal_(generator=source)
        return self._noise[name]

    def of(self, keep: Tensor) -> "Chance":
        """That of some of the pictures, from here on; `keep` (n,) holds their places."""
        chosen = Chance((), self._transforms, self._device)
        places = keep.tolist()
        chosen._views = [self._views[place] for place in places]
        chosen._pixels = [self._pixels[place] for place in places]
        chosen._ahead = self._ahead.unflatten(1, (len(self._views), -1))[:, keep].flatten(1, 2)
        chosen._taken = self._taken
        return chosen

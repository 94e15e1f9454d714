"""How a picture is written down while it is optimised: numbers (N, …) that decode to RGB (N, 3, H, W) in [0, 1].

What is optimised decides what is found. On pixels every frequency moves equally fast, and the picture fills with the
high frequencies that networks react to; in Fourier space, scaled by 1/f as natural images are, large shapes come first.

- "pixels": one number a pixel and channel.
- "fourier": the spectrum, divided by f^decay, with decorrelated colours (Olah, Mordvintsev & Schubert, 2017).
- "maco": the phases alone; the magnitudes are those of natural images (Fel et al., 2023).

`squash` maps to [0, 1]: "sigmoid", or "clamp" (with the gradient of the identity inside, none outside). `contrast` bounds the
standard deviation of what is squashed: a picture that goes beyond is scaled down to it, and its gradient with it, so that
steps which would only make it harsher lead nowhere.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lsd.errors import UndefinedError

KINDS = ("fourier", "pixels", "maco")
SQUASHES = ("sigmoid", "clamp")

# Square root of ImageNet's colour covariance, divided by its largest column norm, as in Lucid (optvis/param/color.py).
COLOR_CORRELATION = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.46195


def frequencies(height: int, width: int) -> np.ndarray:
    """Cycles per pixel of every entry of `irfft2`'s input: (height, width // 2 + 1)."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])


def fourier_scale(height: int, width: int, decay: float) -> np.ndarray:
    """1 / max(f, 1 / longer side)^decay, for an orthonormal transform: (height, width // 2 + 1).

    Lucid's scaling (optvis/param/spatial.py): the constant term counts as the lowest frequency.
    """
    return 1 / np.maximum(frequencies(height, width), 1 / max(height, width)) ** decay


@functools.cache
def natural_spectrum() -> np.ndarray:
    """Mean magnitude of natural photos' spectra, in decorrelated colours, at unit standard deviation in each picture.

    (3, 128, 65) float32, as `numpy.fft.rfft2(norm="ortho")` gives it for 128 × 128 pixels; made by
    `python -m lsd.features.spectrum FOLDER` and shipped as a file, so nothing is downloaded.
    """
    with (files("lsd.features") / "spectrum.npz").open("rb") as file:
        return np.load(file)["magnitude"].astype(np.float32)


def resize_spectrum(magnitude: np.ndarray, height: int, width: int) -> np.ndarray:
    """(3, h, w // 2 + 1) → (3, height, width // 2 + 1), by cycles a picture; beyond what is known it falls as 1/f.

    Natural pictures look alike at every scale, so what one has in n cycles a picture does not depend on its pixels.
    """
    from scipy.ndimage import map_coordinates

    h = magnitude.shape[1]
    rows, columns = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    # A coefficient beyond the known band is read where its ray leaves the band, and falls as 1/f from there.
    limit = h // 2 - 1
    r, c = np.meshgrid(rows, columns, indexing="ij")
    beyond = np.maximum(np.maximum(abs(r), abs(c)) / limit, 1)
    shifted = np.fft.fftshift(magnitude, axes=1)
    at = [r / beyond + h // 2, c / beyond]
    return np.stack([map_coordinates(channel, at, order=1, mode="nearest") / beyond for channel in shifted])


class Parameterization(ABC):
    """Numbers that stand for pictures of `size` = (height, width)."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        squash: str = "sigmoid",
        contrast: float = 0.0,
        device: torch.device | str = "cpu",
    ):
        if squash not in SQUASHES:
            raise UndefinedError(f"There is no squash “{squash}”; choose one of {', '.join(SQUASHES)}.")
        self.size, self.squash, self.contrast, self.device = size, squash, contrast, torch.device(device)

    @abstractmethod
    def noise(self, generators: Sequence[torch.Generator], sd: float) -> Tensor:
        """Numbers for one picture a generator: noise of standard deviation `sd`, drawn from each by itself."""

    @abstractmethod
    def decode(self, numbers: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in [0, 1]."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Numbers that decode to `images`, as near as the parameterization can."""

    def _to_rgb(self, values: Tensor) -> Tensor:
        if self.contrast:
            deviation = torch.var(values, (1, 2, 3), correction=0, keepdim=True).sqrt()
            values = values * (self.contrast / deviation.clamp(min=self.contrast))
        return torch.sigmoid(values) if self.squash == "sigmoid" else (values + 0.5).clamp(0, 1)

    def _from_rgb(self, images: Tensor) -> Tensor:
        return torch.logit(images.clamp(1e-3, 1 - 1e-3)) if self.squash == "sigmoid" else images - 0.5

    def _gaussian(self, generators: Sequence[torch.Generator], shape: tuple[int, ...], sd: float) -> Tensor:
        # On the CPU, so that a seed means the same noise on every device.
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device) * sd


class Pixels(Parameterization):
    """Numbers (N, 3, H, W), one a pixel and channel; no colour decorrelation."""

    def noise(self, generators: Sequence[torch.Generator], sd: float) -> Tensor:
        return self._gaussian(generators, (3, *self.size), sd)

    def decode(self, numbers: Tensor) -> Tensor:
        return self._to_rgb(numbers)

    def encode(self, images: Tensor) -> Tensor:
        return self._from_rgb(images)


class _Decorrelated(Parameterization):
    """What spectra share: three decorrelated colour channels that become RGB."""

    def __init__(self, size: tuple[int, int], **settings):
        super().__init__(size, **settings)
        self.colors = torch.tensor(COLOR_CORRELATION, dtype=torch.float32, device=self.device)

    def _mix(self, channels: Tensor, colors: Tensor) -> Tensor:
        """(N, 3, h, w) → (N, 3, h, w), each pixel times the 3 × 3 matrix."""
        return torch.matmul(colors.to(channels.dtype), channels.flatten(2)).view_as(channels)

    def _unmixed(self, images: Tensor) -> Tensor:
        return self._mix(self._from_rgb(images), torch.linalg.inv(self.colors))


class Fourier(_Decorrelated):
    """Numbers (N, 3, H, W // 2 + 1, 2): real and imaginary parts of the spectrum, divided by `fourier_scale`.

    Args:
        decay: power of the frequency that a coefficient's weight falls with.
    """

    def __init__(self, size: tuple[int, int], *, decay: float = 1.0, **settings):
        super().__init__(size, **settings)
        # Lucid multiplies by √(h·w) / h·w for its transform and divides the picture by 4: the same scale, orthonormal.
        scale = torch.tensor(fourier_scale(*size, decay) / 4, dtype=torch.float32, device=self.device)
        # A column each for real and imaginary part: one for both, broadcast, takes five times as long on a CPU.
        self.scale = scale[..., None].repeat(1, 1, 2)

    def noise(self, generators: Sequence[torch.Generator], sd: float) -> Tensor:
        return self._gaussian(generators, (3, self.size[0], self.size[1] // 2 + 1, 2), sd)

    def decode(self, numbers: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(numbers * self.scale.to(numbers.dtype))
        return self._to_rgb(self._mix(torch.fft.irfft2(spectrum, s=self.size, norm="ortho"), self.colors))

    def encode(self, images: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(self._unmixed(images), norm="ortho")
        return torch.view_as_real(spectrum) / self.scale.to(images.dtype)


class Maco(_Decorrelated):
    """Numbers (N, 3, H, W // 2 + 1): phases. The magnitudes are natural, and stay.

    As in the authors' code the phases are standardised before, and the picture after, the transform: a phase that has
    wandered far moves less with every step. They are brought to the spread of the uniform distribution on the circle
    rather than to 1, so that the phases of a photo can be told.
    """

    _SPREAD = math.pi / math.sqrt(3)

    def __init__(self, size: tuple[int, int], **settings):
        super().__init__(size, **settings)
        magnitude = resize_spectrum(natural_spectrum(), *size)
        self.magnitude = torch.tensor(magnitude, dtype=torch.float32, device=self.device)

    def noise(self, generators: Sequence[torch.Generator], sd: float) -> Tensor:
        return self._gaussian(generators, (3, self.size[0], self.size[1] // 2 + 1), sd)

    def decode(self, numbers: Tensor) -> Tensor:
        phase = _standardised(numbers) * self._SPREAD
        magnitude = self.magnitude.to(numbers.dtype)
        spectrum = torch.complex(phase.cos() * magnitude, phase.sin() * magnitude)
        return self._to_rgb(
            self._mix(_standardised(torch.fft.irfft2(spectrum, s=self.size, norm="ortho")), self.colors)
        )

    def encode(self, images: Tensor) -> Tensor:
        return torch.fft.rfft2(self._unmixed(images), norm="ortho").angle()


def _standardised(values: Tensor) -> Tensor:
    """Zero mean and unit standard deviation in each of (N, …)."""
    over = tuple(range(1, values.ndim))
    centred = values - values.mean(over, keepdim=True)
    return centred / (centred.square().mean(over, keepdim=True).sqrt() + 1e-5)


def make(kind: str, size: tuple[int, int], *, decay: float = 1.0, **settings) -> Parameterization:
    """The parameterization called `kind`, with the settings `squash`, `contrast` and `device`.

    Raises:
        UndefinedError: there is none, or no such squash.
    """
    if kind == "fourier":
        return Fourier(size, decay=decay, **settings)
    if kind in ("pixels", "maco"):
        return (Pixels if kind == "pixels" else Maco)(size, **settings)
    raise UndefinedError(f"There is no parameterization “{kind}”; choose one of {', '.join(KINDS)}.")


def carry_over(numbers: Tensor, old: Parameterization, new: Parameterization) -> Tensor:
    """Numbers of `old` → numbers of `new` for the same pictures at another size."""
    with torch.no_grad():
        if isinstance(old, Fourier) and isinstance(new, Fourier):
            return _carry_spectrum(numbers, old, new)
        images = F.interpolate(old.decode(numbers), new.size, mode="bicubic", antialias=True, align_corners=False)
        return new.encode(images.clamp(0, 1))


def _carry_spectrum(numbers: Tensor, old: Fourier, new: Fourier) -> Tensor:
    """Frequencies by cycles a picture: those that both have are kept exactly, new ones start at 0."""
    spectrum = torch.view_as_complex((numbers * old.scale).contiguous())
    spectrum = spectrum * math.sqrt(math.prod(new.size) / math.prod(old.size))
    larger = torch.zeros(
        *spectrum.shape[:2], new.size[0], new.size[1] // 2 + 1, dtype=spectrum.dtype, device=spectrum.device
    )
    up = (min(old.size[0], new.size[0]) + 1) // 2
    down = min(old.size[0], new.size[0]) - up
    across = min(spectrum.shape[3], larger.shape[3])
    narrow = min(old.size[1], new.size[1])
    if narrow % 2 == 0 and old.size[1] != new.size[1]:  # the last column of an even width has no mirror image to count
        spectrum[..., narrow // 2] *= 0.5 if new.size[1] > narrow else 2
    larger[:, :, :up, :across] = spectrum[:, :, :up, :across]
    if down:
        larger[:, :, -down:, :across] = spectrum[:, :, -down:, :across]
    return torch.view_as_real(larger) / new.scale

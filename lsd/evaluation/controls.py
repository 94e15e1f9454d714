"""Maps that have never seen the network: what a saliency map must beat to have told anything of it.

Each is float64 (H, W) in [0, ∞), larger for more salient. Objects lie in the middle of photographs and at edges, so
"centre" and "edges" score well wherever pictures alone decide; "random" is chance, and "random blurred" is chance in
blobs of the size that maps of coarse layers have.
"""

from collections.abc import Callable

import numpy as np

_LUMINANCE = (0.299, 0.587, 0.114)  # Rec. 601


def centre(image: np.ndarray, seed: int) -> np.ndarray:
    """A Gaussian about the middle, of a standard deviation of a quarter of the shorter side; in (0, 1]."""
    height, width = image.shape[1:]
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    return np.exp(-(x**2 + y**2) / (2 * (min(height, width) / 4) ** 2))


def edges(image: np.ndarray, seed: int) -> np.ndarray:
    """The magnitude of the luminance's gradient by Sobel's filter, which gives 8 times the slope per pixel."""
    from scipy.ndimage import sobel

    luminance = np.tensordot(_LUMINANCE, image.astype(np.float64), axes=1)
    return np.hypot(sobel(luminance, axis=0), sobel(luminance, axis=1))


def random(image: np.ndarray, seed: int) -> np.ndarray:
    """Independent uniform noise in [0, 1)."""
    return np.random.default_rng(seed).random(image.shape[1:])


def random_blurred(image: np.ndarray, seed: int) -> np.ndarray:
    """`random` under a Gaussian of 1/28 of the shorter side, rescaled to reach from 0 to 1."""
    from scipy.ndimage import gaussian_filter

    # Wrapped around: mirrored at the borders, noise is averaged less there, and the extremes would gather at the rim.
    noise = gaussian_filter(random(image, seed), min(image.shape[1:]) / 28, mode="wrap")
    return (noise - noise.min()) / np.ptp(noise)


def random_coarse(image: np.ndarray, seed: int) -> np.ndarray:
    """`random`, at one number for 32 × 32 pixels: a deep layer's grid, to be enlarged as its maps are."""
    height, width = (max(2, side // 32) for side in image.shape[1:])
    return np.random.default_rng(seed).random((height, width))


# Picture (3, H, W), [0, 1], and seed → map (H, W). "centre" and "edges" are the same for every seed.
CONTROLS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "centre": centre, "edges": edges, "random": random, "random blurred": random_blurred,
}  # fmt: skip

# What is there to be drawn as an attribution is, and stands in no table.
NOISE = {"random coarse": random_coarse}

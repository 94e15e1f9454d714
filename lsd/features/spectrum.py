"""Measure the mean spectrum of natural photos: python -m lsd.features.spectrum FOLDER

Writes `spectrum.npz` beside this file: what the "maco" parameterization takes as the magnitudes of a natural picture.
Only the mean over all photos is kept, from which none of them can be told.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from lsd.features.parameterizations import COLOR_CORRELATION
from lsd.images import find_images, open_image

SIDE = 128


def decorrelated(image: Image.Image) -> np.ndarray:
    """The middle of a photo, (3, 128, 128), as "maco" writes pictures: logits of RGB, decorrelated, standardised."""
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    square = image.crop((left, top, left + short, top + short)).resize((SIDE, SIDE), Image.Resampling.BOX)
    rgb = np.clip(np.asarray(square, dtype=np.float64).transpose(2, 0, 1) / 255, 1e-2, 1 - 1e-2)
    channels = np.einsum("dc,chw->dhw", np.linalg.inv(COLOR_CORRELATION), np.log(rgb / (1 - rgb)))
    return (channels - channels.mean()) / channels.std()


def mean_spectrum(photos: list[Path]) -> np.ndarray:
    """Mean magnitude of the photos' spectra under a window that keeps their edges from counting: (3, 128, 65)."""
    window = np.hanning(SIDE + 2)[1:-1]
    window = np.outer(window, window)
    window /= np.sqrt((window**2).mean())
    total = np.zeros((3, SIDE, SIDE // 2 + 1))
    for path in photos:
        channels = decorrelated(open_image(path))
        constant = channels.mean((1, 2), keepdims=True)
        spectrum = np.abs(np.fft.rfft2((channels - constant) * window, norm="ortho"))
        spectrum[:, 0, 0] = np.abs(constant[:, 0, 0]) * SIDE
        total += spectrum
    return total / len(photos)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    photos = find_images(folder)
    if not photos:
        raise SystemExit(f"There are no photos in {folder}.")
    np.savez_compressed(
        Path(__file__).parent / "spectrum.npz", magnitude=mean_spectrum(photos).astype(np.float16), photos=len(photos)
    )
    print(f"mean spectrum of {len(photos)} photos written")


if __name__ == "__main__":
    main()

"""How well other networks recognise the pictures that a GPU made in each precision: of the ZIPs of `benchmarks/gpu.sh`.

    python -m benchmarks.gpu_quality OUT --judges mobilenetv2_100.ra_in1k resnet50.a1_in1k

Each class is one pair of pictures, so the difference from fp32 comes with the interval of a bootstrap over classes.
"""

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from lsd import markdown
from lsd.features.judge import clipped, contrast, probabilities
from lsd.models import load_model


def read(path: Path) -> dict[int, np.ndarray]:
    """Class → pixels, uint8 (H, W, 3)."""
    with zipfile.ZipFile(path) as archive:
        return {
            int(Path(name).stem): np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            for name in archive.namelist()
        }


def main() -> None:
    """Print a row for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judges", nargs="+", required=True, metavar="NAME")
    arguments = parser.parse_args()
    made = {path.stem.removeprefix("pictures-"): read(path) for path in sorted(arguments.folder.glob("pictures-*.zip"))}
    if "fp32" not in made:
        parser.error(f"There is no pictures-fp32.zip in {arguments.folder}; benchmarks/gpu.sh writes it.")
    classes = sorted(made["fp32"])
    top = {kind: np.zeros((len(arguments.judges), len(classes))) for kind in made}
    logs = {kind: np.zeros((len(arguments.judges), len(classes))) for kind in made}
    for i, name in enumerate(arguments.judges):
        judge = load_model(name, device="cpu")
        for kind, pictures in made.items():
            p = probabilities([pictures[c] for c in classes], judge).double().numpy()
            top[kind][i] = p.argmax(1) == classes
            logs[kind][i] = np.log(p[np.arange(len(classes)), classes])
    draws = np.random.default_rng(0).integers(0, len(classes), (2000, len(classes)))
    rows = []
    for kind, pictures in made.items():
        apart = (logs[kind] - logs["fp32"]).mean(0)
        low, high = np.percentile(apart[draws].mean(1), [2.5, 97.5])
        rows.append((
            kind, f"{top[kind].mean():.3f}", f"{logs[kind].mean():.3f}", f"{apart.mean():+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{np.mean([contrast(p) for p in pictures.values()]):.3f}", f"{np.mean([clipped(p) for p in pictures.values()]):.3f}",
        ))  # fmt: skip
    header = ["precision", "others' top-1", "mean log p", "log p − fp32's", "contrast", "clipped"]
    print("\n".join(markdown.table(header, rows)))
    print(f"{len(classes)} classes, {len(arguments.judges)} judges")


if __name__ == "__main__":
    main()

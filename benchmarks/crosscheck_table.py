"""The handwritten methods against Captum's over the families of timm, as a table.

python -m benchmarks.crosscheck_table [--write docs/crosscheck.md]
"""

import argparse
from pathlib import Path

import captum
import timm
import torch

from benchmarks.families import CASES, METHODS
from lsd.errors import UndefinedError
from lsd.saliency.crosscheck import TOLERANCE, crosscheck
from lsd.saliency.targets import Target

INTRODUCTION = """\
# The handwritten methods against Captum

Largest difference, relative to the largest value of the map: fp32 / fp64. Each network is a small one of its family
with random weights and one random picture; the target is the log-odds of one class. Made by
`python -m benchmarks.crosscheck_table`, with timm {timm}, Captum {captum} and PyTorch {torch}; the same comparisons run
as tests, with tolerances of {fp32:g} and {fp64:g}.

- "–" is a method that is not defined for the network and is refused by both (it needs ReLUs and nothing else).
- "own" is one that Captum would get wrong without saying so, and that the handwritten method defines: rectifiers that
  are not `nn.ReLU` modules, or whose input goes elsewhere as well, and Grad-CAM over tokens or channels-last layers.
- Captum rounds the weights of its quadrature to fp32, so integrated gradients are compared by the midpoint rule with
  four steps, whose weights fp32 holds exactly.
- What agreement proves, and what not: [places.md](places.md).
"""

PHOTOS = ("Chelsea the cat", "Summer Palace")
PHOTO_INTRODUCTION = """\
## Trained networks on photos

The same for the networks that come with the requirements, with their own weights, at their own input size, on two photos
that come with them too; the target is the log-odds of the first choice.
"""


def cell(method: str, models: dict, image: torch.Tensor, target: Target) -> str:
    """What the table says of one network and one method."""
    differences = []
    for model in models.values():
        try:
            check = crosscheck(model, image.to(model.dtype), target, method, **METHODS[method])
        except UndefinedError:
            return "–"
        if check.difference is None:
            return "own"
        differences.append(check.difference)
    return " / ".join(f"{difference:.0e}" if difference else "0" for difference in differences)


def photo_rows():
    """A row a network with its own weights and a photo: what everybody has who installed the requirements."""
    from lsd.images import example_images, open_image
    from lsd.models import load_model
    from lsd.packages import PACKAGES
    from lsd.saliency.explain import to_input

    for name in PACKAGES:
        models = {dtype: load_model(name, device="cpu").to(dtype) for dtype in (torch.float32, torch.float64)}
        for label in PHOTOS:
            image = to_input(models[torch.float64], open_image(example_images()[label]))
            target = Target(int(models[torch.float64](image).argmax()))
            yield [label, name, *(cell(method, models, image, target) for method in METHODS)]


def rows():
    """A row a network, as it is computed."""
    for case in CASES:
        models = {dtype: case.build(dtype) for dtype in (torch.float32, torch.float64)}
        image = torch.rand(1, 3, case.size, case.size, generator=torch.Generator().manual_seed(0))
        yield [case.family, case.name, *(cell(method, models, image, Target(3)) for method in METHODS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table there as well")
    write = parser.parse_args().write
    torch.set_num_threads(1)  # the networks are too small to share out
    lines = [
        INTRODUCTION.format(
            timm=timm.__version__, captum=captum.__version__, torch=torch.__version__.partition("+")[0],
            fp32=TOLERANCE[torch.float32], fp64=TOLERANCE[torch.float64],
        ),
        "| family | network | " + " | ".join(METHODS) + " |",
        "|---" * (len(METHODS) + 2) + "|",
    ]  # fmt: skip
    print("\n".join(lines))
    for row in rows():
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        PHOTO_INTRODUCTION,
        "| photo | network | " + " | ".join(METHODS) + " |",
        "|---" * (len(METHODS) + 2) + "|",
    ]
    for row in photo_rows():
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    if write:
        write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

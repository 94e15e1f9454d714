"""What each map of a class costs beside depth fusion: passes, and the processor's seconds as ratios within one run.

    python -m benchmarks.rivals_cost [--models resnet50 vit_tiny_patch16_224 mobilenetv2_100] [--rounds 5]

Random weights, one picture of 224 × 224, one thread. The methods take turns, round by round; a ratio is the median over rounds.
The processor's time is counted, and not the clock's, so other work on the machine tells little. Methods of many passes run once.
"""

import argparse
import statistics
import time

import timm
import torch

from lsd import markdown
from lsd.errors import UndefinedError
from lsd.models import ImageModel
from lsd.saliency.defaults import METHOD
from lsd.saliency.methods import METHODS, attribute, find_method, passes
from lsd.saliency.targets import Target

NAMES = (METHOD, "grad_cam", "hires_cam", "grad_cam_plus_plus", "finer_cam", "layer_cam", "refine_cam", "score_cam",
         "expected_gradients")  # fmt: skip


def seconds(model: ImageModel, image: torch.Tensor, name: str) -> float | None:
    """Of the processor, for one map; None where it is not defined."""
    start = time.process_time()
    try:
        attribute(name, model, image, Target(0, "logit"))
    except UndefinedError:
        return None
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_tiny_patch16_224", "mobilenetv2_100"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    columns = []
    for network in options.models:
        torch.manual_seed(0)
        model = ImageModel(timm.create_model(network), network)
        once = [name for name in NAMES if passes(METHODS[name].parse({})) == 1]
        for name in once:
            seconds(model, image, name)  # the first time it looks for its layers
        rounds = [{name: seconds(model, image, name) for name in once} for _ in range(options.rounds)]
        spent = {name: [one[name] for one in rounds] for name in once}
        spent |= {name: [seconds(model, image, name)] for name in NAMES if name not in once}
        usual = statistics.median(spent[METHOD])
        columns.append({n: "–" if None in own else f"{statistics.median(own) / usual:.2g}" for n, own in spent.items()})
        columns[-1][METHOD] = f"{usual:.2f} s"
    rows = [
        [find_method(name).title, f"{passes(find_method(name).parse({}))}", *(column[name] for column in columns)]
        for name in NAMES
    ]
    print("\n".join(markdown.table(["", "passes", *options.models], rows)))


if __name__ == "__main__":
    main()

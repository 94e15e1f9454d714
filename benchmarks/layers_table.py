"""docs/layers.md: which layers are looked at, in one network of each family.

python -m benchmarks.layers_table > docs/layers.md
"""

from benchmarks.families import CASES, Case
from lsd import markdown
from lsd.errors import UndefinedError
from lsd.layers import curated_layers, depth_layers, list_layers

ABOUT = """# Which layers are looked at

Small networks of each family with random weights, as [crosscheck.md](crosscheck.md) has them. *First*: what lists of layers begin
with and `layer:curated` stands for, a network's stages and blocks; of a stage and the block that it ends with, which put out the
same, the one by whose name people know the place (`layer4`, `blocks.11`). *Depths*: what depth fusion takes, the last of which is
where Grad-CAM looks. *Places*: how many layers have places, and how many look as if they had and were refused ([why](places.md)).
Made by `python -m benchmarks.layers_table`; a test holds the rows to what the code says.
"""
HEADER = ["family", "network", "first", "depths", "places", "refused"]


def row(case: Case) -> tuple[str, ...]:
    """Family, network, its curated layers, those at several depths, how many have places, and how many were refused."""
    model = case.build()
    first = ", ".join(layer.name for layer in curated_layers(model))
    try:
        depths = ", ".join(layer.name for layer in depth_layers(model))
    except UndefinedError as error:
        depths = str(error)
    places, refused = (sum(bool(getattr(one, what)) for one in list_layers(model)) for what in ("height", "refused"))
    return case.family, case.name, first, depths, str(places), str(refused)


if __name__ == "__main__":
    print(ABOUT)
    print("\n".join(markdown.table(HEADER, [row(case) for case in CASES])))

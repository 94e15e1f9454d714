"""Is what is said of each of timm's pretrained networks true? Told from timm's configurations alone, in seconds.

Nothing is downloaded, and no network is built: a module without layers stands for it, and is asked what the library would say of
the network of that name: its input, what its outputs are, what its classes are called. A refusal is a row as well.
"""

import argparse
import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
from torch import nn

from lsd import labels, markdown
from lsd.errors import LSDError
from lsd.models import ImageModel
from lsd.weights import NOWHERE, availability

_CLASSES = {  # by what timm's tags call the data set: how many classes its heads have, in the versions there are
    "in1k": (1000,), "in12k": (11821,), "in21k": (11221, 21843), "in22k": (21841, 21842), "inw21k": (19168,),
}  # fmt: skip
_DATA_SET = re.compile(rf"(?:^|[._])({'|'.join(_CLASSES)})(?=[._]|$)")
TABLE, NUMBER, NOBODY = (
    "timm's table, of the tag's data set",
    "timm's table, by their number alone",
    "nobody named them",
)
REFUSED, WRONG = "refused", "wrong"


@dataclass(frozen=True)
class Tag:
    """What is said of one pretrained network.

    Attributes:
        name: timm's, with its tag.
        head: "classes", "sigmoid" or "embedding" (`ImageModel.outputs`); "refused" or "wrong", and `why`.
        width: the number of outputs that timm gives.
        names: where the classes' names come from: `TABLE`, `NUMBER` or `NOBODY`; "" where there are none.
        repo: the repository of its weights, where it is called otherwise than the network.
        why: of a refusal, and of what is wrong; "" otherwise.
    """

    name: str
    head: str
    width: int
    names: str = ""
    repo: str = ""
    why: str = ""


def check(name: str, config: dict | None = None) -> Tag:
    """What the library says of the network of that name.

    Args:
        config: timm's, or another to be tried.
    """
    config = config or timm.get_pretrained_cfg(name).to_dict()
    width = config["num_classes"]
    try:
        model = ImageModel(_stand_in(config), name)
    except LSDError as error:
        return Tag(name, REFUSED, width, why=str(error))
    wrong = _wrong(model, config)
    if wrong:
        return Tag(name, WRONG, width, why=wrong)
    found = availability(name)
    if found.place == NOWHERE:
        return Tag(name, REFUSED, width, why=found.reason.replace(name, "It"))
    repo = config.get("hf_hub_id") or ""
    other = repo if repo.rpartition("/")[2] not in ("", name) else ""
    return Tag(name, model.outputs, width, _origin(name, model), other)


def _stand_in(config: dict) -> nn.Module:
    net = nn.Identity()
    net.pretrained_cfg, net.num_classes = config, config["num_classes"]
    return net


def _wrong(model: ImageModel, config: dict) -> str:
    """What is said of the network and cannot be true; "" where all may be."""
    if (model.spec.height, model.spec.width) != tuple(config["input_size"][1:]):
        return "its input has another size than timm says"
    if len(model.class_names) != model.num_classes:
        return f"{len(model.class_names)} names for {model.num_classes} classes"
    data_set = _data_set(model.name)
    if model.num_classes and data_set and model.num_classes not in _CLASSES[data_set]:
        return f"its tag says {data_set}, and it has {model.num_classes} classes"
    return ""


def _data_set(name: str) -> str | None:
    """The data set of the head: the last one that the tag names."""
    return next(reversed(_DATA_SET.findall(name)), None)


def _origin(name: str, model: ImageModel) -> str:
    if not model.num_classes:
        return ""
    if not labels.synsets(model.num_classes):
        return NOBODY
    return TABLE if _data_set(name) else NUMBER


def summary(tags: Iterable[Tag]) -> list[str]:
    """Markdown: how many of each kind of head and origin of names, and every exception by name with its reason."""
    tags = list(tags)
    count = Counter((tag.head, tag.names) for tag in tags)
    lines = [f"{len(tags)} pretrained networks (timm {timm.__version__}):", ""]
    lines += markdown.table(
        ("outputs", "names of classes", "networks"), ((*key, str(n)) for key, n in count.most_common())
    )
    groups = defaultdict(list)
    for tag in tags:
        for reason in _exceptional(tag):
            groups[reason].append(tag.name)
    for reason, names in groups.items():
        lines += ["", *textwrap.wrap(f"- {len(names)} {reason}: {', '.join(names)}", 128, break_on_hyphens=False)]
    return lines


def _exceptional(tag: Tag) -> Iterable[str]:
    if tag.why:
        yield f"{tag.head} ({tag.why.rstrip('.')})"
    if tag.names == NUMBER:
        yield "whose tag names no data set, so that the names are assumed from the number of classes"
    if tag.names == NOBODY:
        yield f"whose {tag.width} classes nobody named: they have numbers"
    if tag.head == "embedding" and tag.width:
        yield "whose classes by timm's count are the numbers of an embedding"
    if tag.repo:
        yield "whose weights lie in a repository of another name, so that timm's own configuration is taken and not that one's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the study."""
    parser.add_argument(
        "filter", nargs="*", default=["*"], help="names or wildcards of pretrained networks (default: all)"
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder: tags.json and summary.md")


def run(options: argparse.Namespace) -> None:
    """Check them all, and sum up."""
    names = list(dict.fromkeys(name for pattern in options.filter for name in timm.list_pretrained(pattern)))
    if not names:
        raise LSDError(f"No pretrained network of timm is called {', '.join(options.filter)}.")
    tags = [check(name) for name in names]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "tags.json").write_text(json.dumps([asdict(tag) for tag in tags], indent=1), "utf-8")
    text = "\n".join(summary(tags))
    (options.output / "summary.md").write_text(text + "\n", "utf-8")
    print(text)

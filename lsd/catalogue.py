"""The models that are offered first, what people call them, where they come from, and the search through all the others."""

from dataclasses import dataclass

from lsd.curated import CURATED
from lsd.models import ready_models
from lsd.weights import HUB, Availability, availability


@dataclass(frozen=True)
class Entry:
    """One model on offer.

    Attributes:
        family, title, name, millions: as for `Network`; millions None if they are not known yet.
        available: where it comes from.
    """

    family: str
    title: str
    name: str
    millions: float | None
    available: Availability

    @property
    def origin(self) -> str:
        """Where it comes from, in words: "here", "on the Hub, 102 MB", "on the Hub, 102 MB, out of reach", "nowhere"."""
        if self.available.place != HUB:
            return self.available.place
        size = "" if self.millions is None else f", {4 * self.millions:.0f} MB"  # four bytes a parameter
        return f"on the Hub{size}{'' if self.available.can_load else ', out of reach'}"


_BY_NAME = {network.name: network for network in CURATED}
_BY_ARCHITECTURE = {network.name.partition(".")[0]: network.title for network in CURATED}
_DEMO = {"convnext": "ConvNeXt", "resnet": "ResNet", "shortcut": "tag reader", "vit": "XCiT"}


def common_name(name: str) -> str:
    """What people call a model: "EfficientNet-Lite0", "ResNet-50", "Demo ResNet"; its own name where that is not known.

    A network of a known architecture that was trained otherwise than the catalogue's is told apart by its tag: "ResNet-50
    (tv_in1k)". No two models are called alike.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "demo":
        return f"Demo {_DEMO.get(rest, rest)}"
    if name in _BY_NAME:
        return _BY_NAME[name].title
    architecture, _, tag = name.partition(".")
    return f"{_BY_ARCHITECTURE[architecture]} ({tag})" if tag and architecture in _BY_ARCHITECTURE else name


def offered() -> list[Entry]:
    """What is offered first: the models that are ready here, then the curated ones by family and size."""
    ready = ready_models()
    return [_entry("Ready here", name) for name in ready] + [
        _entry(n.family, n.name) for n in CURATED if n.name not in ready
    ]


def _entry(family: str, name: str) -> Entry:
    known = _BY_NAME.get(name)
    return Entry(family, common_name(name), name, known and known.millions, availability(name))


def search(pattern: str, limit: int = 200) -> list[str]:
    """Names of pretrained timm models that match: a timm wildcard (`resnet*`) or a part of the name."""
    import timm

    wildcard = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    return timm.list_models(wildcard, pretrained=True)[:limit]

"""What a person says of a network that the network does not say itself, or says wrongly; the same words at every door."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lsd.errors import LSDError


@dataclass(frozen=True)
class Said:
    """What somebody says of a network; nothing, by default. `lsd.layers.as_said` has a network read so.

    Attributes:
        outputs: what its outputs are: "classes", one class of several, "sigmoid", each a question of its own, or "embedding",
            the numbers of a vector; None for what their number and the configuration say.
        layouts: (layer, how its output is laid out), where `lsd.places` finds no places or the wrong ones: a text that
            `lsd.layout.said` knows, or a function from the output to (N, C, h, w). A mapping will do, too.
    """

    outputs: str | None = None
    layouts: tuple[tuple[str, str | Callable[[Tensor], Tensor]], ...] = ()

    def __post_init__(self):  # by name, so that the same sayings are equal
        object.__setattr__(self, "layouts", tuple(sorted(dict(self.layouts).items(), key=lambda pair: pair[0])))

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != NOTHING

    def __or__(self, later: "Said") -> "Said":
        """Both, and where they differ the later one."""
        return Said(later.outputs or self.outputs, dict(self.layouts) | dict(later.layouts))

    def to_dict(self) -> dict:
        """As plain JSON values, without what is not said. Of a function only its name is kept, which makes no function again."""
        texts = {
            name: how if isinstance(how, str) else f"function {getattr(how, '__name__', '')}"
            for name, how in self.layouts
        }
        return ({"outputs": self.outputs} if self.outputs else {}) | ({"layouts": texts} if texts else {})

    @classmethod
    def from_dict(cls, values: Mapping) -> "Said":
        """The inverse of `to_dict`. Raises LSDError for other values."""
        outputs, layouts = (
            (values.get(key) for key in ("outputs", "layouts")) if isinstance(values, Mapping) else (0, 0)
        )
        texts = isinstance(outputs, str | None) and isinstance(layouts, Mapping | None)
        if not texts or not all(isinstance(text, str) for pair in (layouts or {}).items() for text in pair):
            raise LSDError(
                "What is said of a network is a text for its outputs, and for its layouts a text for each layer’s name."
            )
        return cls(outputs or None, layouts or {})


NOTHING = Said()

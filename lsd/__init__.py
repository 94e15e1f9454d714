"""LSD: a simulator for explainable deep learning, over any image model of timm's, torchvision's or one's own.

The front door, each name loaded when it is first used; docs/library.md has an example of each:

    model = lsd.load_model("tf_efficientnet_lite0.in1k")    # or lsd.wrap(net)
    lsd.explain(model, "example:Chelsea the cat").show()
    lsd.visualize(model, "class/espresso").show()
    lsd.find_reasons(model, "example:Chelsea the cat").show()
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_HOMES = {
    "crosscheck": "lsd.library",
    "explain": "lsd.library",
    "explain_classes": "lsd.library",
    "find_reasons": "lsd.library",
    "load_model": "lsd.models",
    "open_image": "lsd.library",
    "visualize": "lsd.library",
    "wrap": "lsd.wrapping",
}
__all__ = [*_HOMES]


def __getattr__(name: str):
    # Late, as torch and timm take seconds to import, and by name, as the rooms behind do not know who stands at the door.
    if name not in _HOMES:
        raise AttributeError(f"module 'lsd' has no attribute {name!r}")
    value = globals()[name] = getattr(_import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""The library's front door: what `import lsd` gives to who writes Python, over the rooms behind it.

Everything here is said in a few words and returns something that a notebook shows. What it does not offer (many targets in one
pass, ascents followed step by step, switching what one likes off) is in `lsd.saliency`, `lsd.features` and `lsd.reasons`.
"""

from lsd.library.features import Visualization, visualize
from lsd.library.inputs import PictureLike, open_image
from lsd.library.reasons import Reasoning, find_reasons
from lsd.library.saliency import ClassMaps, Saliency, crosscheck, explain, explain_classes

__all__ = [
    "ClassMaps", "PictureLike", "Reasoning", "Saliency", "Visualization", "crosscheck", "explain", "explain_classes",
    "find_reasons", "open_image", "visualize",
]  # fmt: skip

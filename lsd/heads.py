"""Whether a head tells classes, as far as its configuration says."""

import re
from collections.abc import Mapping
from typing import Any

from lsd import labels

# What timm calls networks that were trained to lay a picture's vector beside its caption's. (SigLIP's have no head there.)
_MATCHES_TEXTS = re.compile("clip|pe_core")


def is_embedding(num_classes: int, config: Mapping[str, Any]) -> bool:
    """Whether a head's outputs are the numbers of a vector: there is none, or timm gives its width as a number of classes.

    That is so of the projection of CLIP's towers and of their like (`vit_base_patch16_clip_224.openai` has 512 “classes”), as they
    come; once such a tower was trained further to tell classes, its head has another width, or names.

    Args:
        num_classes: width of the head.
        config: the network's pretrained configuration, with its `architecture` and `tag`.
    """
    if not num_classes:
        return True
    name = ".".join(filter(None, (config.get("architecture"), config.get("tag"))))
    if not _MATCHES_TEXTS.search(name) or config.get("label_names") or labels.synsets(num_classes):
        return False
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False).num_classes == num_classes
    except (RuntimeError, ValueError):  # a tag that is not timm's own
        return False

"""LibraGrad × input: shares of the output that add up to it, in networks whose plain gradients do not."""

from collections.abc import Sequence

from torch import Tensor

from lsd.models import ImageModel
from lsd.saliency.attribution import Attribution
from lsd.saliency.gradients import differentiate, method
from lsd.saliency.libra_rules import libra_logits
from lsd.saliency.targets import Target


@method
def libragrad(model: ImageModel, images: Tensor, targets: Sequence[Target]) -> list[Attribution]:
    """(x − mean) · ∂f/∂x behind the rules of `libra_rules` (Mehri et al., CVPR 2025, “Libra input × gradient”), mean being the
    colour that the network's normalisation takes to zero. Of a logit, these and the likewise shares of all biases add up to it.

    Raises:
        UndefinedError: a network without anything to balance, or with something that there is no rule for.
    """
    gradients, scores = differentiate(lambda shown: libra_logits(model, shown), images, targets)
    return [
        Attribution(g * (images.detach() - model.mean), "libragrad", {}, t, s, passes=1)
        for g, t, s in zip(gradients, targets, scores, strict=True)
    ]

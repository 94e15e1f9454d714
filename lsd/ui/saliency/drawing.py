"""The controls of how a map is drawn: all of them work on values that are there already, so no model runs."""

from typing import Any

import gradio as gr

from lsd.images import ENLARGING
from lsd.render import STYLES
from lsd.saliency.maps import CHANNELS, SCALES, MapSettings
from lsd.saliency.views import Look
from lsd.ui.saliency.address import RANGES
from lsd.ui.shared.evidence import why

_SIGNED_CHANNELS = ("max", "sum")
_SIGNS = [("strength", "abs"), ("for", "positive"), ("against", "negative"), ("both", "signed")]
_STYLES = [("heat map", "heatmap"), ("mask", "mask"), ("contours", "contours"), ("map alone", "map")]
assert set(STYLES) == {value for _, value in _STYLES}


def slim(sign: str) -> dict[str, gr.components.Component]:
    """The controls that are always open, by name.

    Args:
        sign: what suits the method that is chosen first.
    """
    look = Look()
    return {
        "sign": gr.Radio(
            _SIGNS, value=sign, label="Sign", min_width=250, scale=4,
            info="Strength is the magnitude, for and against are its parts, both is signed. In photos, dark-on-light and "
            "light-on-dark are the same thing to a network, so strength is the default for gradients; Grad-CAM shows what "
            f"speaks for the class. {why('sign')}",
        ),
        "style": gr.Radio(
            _STYLES, value=look.style, label="Overlay", min_width=250, scale=4,
            info="A mask darkens what does not matter; contours want some smoothing.",
        ),
        "opacity": gr.Slider(*RANGES["opacity"], look.opacity, step=0.05, label="Opacity", min_width=150, scale=2),
    }  # fmt: skip


def more() -> dict[str, gr.components.Component]:
    """The other controls, by name."""
    usual = MapSettings()
    with gr.Row():
        found = {
            "channels": gr.Radio(
                list(CHANNELS), value=usual.channels, label="Channel reduction",
                info="How the colour channels become one: sum lets them cancel; max takes the strongest (Simonyan); l2 and "
                f"sum_abs look nearly the same. Signed maps have max or sum. {why('channels')}",
            ),
            "scale": gr.Radio(
                list(SCALES), value=usual.scale, label="Scale",
                info="image: each map by itself; shared: one unit for all models, whose raw scales differ; rank: by rank "
                "alone, the fair way to compare where models look.",
            ),
            "upsampling": gr.Radio(
                list(ENLARGING), value=usual.upsampling, label="Interpolation",
                info="Of coarse maps, such as Grad-CAM's, which have one number for many pixels. nearest shows them as they "
                f"are. {why('upsampling')}",
            ),
        }  # fmt: skip
    with gr.Row():
        found |= {
            "clip": gr.Slider(
                *RANGES["clip"], usual.clip, step=0.1, label="Clip at percentile",
                info=f"What lies above is shown at full strength; a few extreme pixels would darken all others. {why('clip')}",
            ),
            "blur": gr.Slider(
                *RANGES["blur"], usual.blur, step=0.5, label="Smoothing (pixels)",
                info="Standard deviation of a Gaussian over the finished map. One pixel takes away single specks. More looks "
                f"better than it is: blurred noise looks good, too. {why('blur')}",
            ),
            "frame": gr.Checkbox(
                Look().frame, label="Outline what the model sees", info="The rest of the picture is dimmed."
            ),
        }  # fmt: skip
    return found


def allowed_channels(sign: str, channels: str) -> dict[str, Any]:
    """The update of the channel reduction for a sign: signed maps have no l2 or sum_abs; who had chosen one gets the default."""
    if sign != "signed":
        return gr.update(choices=list(CHANNELS), value=channels)
    value = channels if channels in _SIGNED_CHANNELS else MapSettings().channels
    return gr.update(choices=list(_SIGNED_CHANNELS), value=value)

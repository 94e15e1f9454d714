"""The saliency study's figures as they ship, and in words: for each choice what it means, and what was found.

`choices.json` is written by `python -m lsd.evaluation saliency … --summary`. The page's Evidence tab and docs/choices.md are
both made of what is here, so neither says what the other does not.
"""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from lsd.evaluation.variants import FACTORS, PIXEL, Variant
from lsd.saliency.methods import passes as passes_of

SUMMARY = Path(__file__).parent / "choices.json"
MOVED = {"clip": "99", "channels": "max", "upsampling": "bilinear"}
"""Choices whose defaults the shipped figures have moved → what they were while the figures were made."""


def as_measured(variant: Variant) -> Variant:
    """A variant drawn as the shipped figures were made: with the defaults that these have moved where they had been."""
    moved = {name: type(getattr(variant.drawing, name))(level) for name, level in MOVED.items()}
    return replace(variant, drawing=replace(variant.drawing, **moved))


@dataclass(frozen=True)
class Choice:
    """One factor in words.

    Attributes:
        name: of the factor, as in `FACTORS` and in links.
        title: as people read it.
        question: what there is to decide.
        meaning: what the levels do, in a few sentences.
        levels: level → how it is called on the page.
        aside: what the scores cannot see, if anything.
    """

    name: str
    title: str
    question: str
    meaning: str
    levels: dict[str, str]
    aside: str = ""


CHOICES: dict[str, Choice] = {
    c.name: c
    for c in (
        Choice(
            "method", "Method", "Which attribution?",
            "The plain gradient asks how the output would change with each pixel. Others multiply it by the picture, average "
            "it over noise or along a path, change the rule at ReLUs, or look at a deep layer. “Depth fusion” is our own: "
            "gradient × activation at several depths, added up and kept to where the deepest layer sees the class.",
            {
                "gradient": "gradient", "gradient_x_input": "gradient × input", "guided_backprop": "guided backpropagation",
                "deconvnet": "deconvnet", "grad_cam": "Grad-CAM", "depth_fusion": "depth fusion",
                "smoothgrad": "SmoothGrad", "smoothgrad_squared": "SmoothGrad²", "vargrad": "VarGrad",
                "integrated_gradients": "integrated gradients", "hires_cam": "HiResCAM", "grad_cam_plus_plus": "Grad-CAM++",
                "finer_cam": "Finer-CAM (of the logit)", "layer_cam": "LayerCAM, fused", "refine_cam": "RefineCAM (of LayerCAM)",
                "refine_cam:grad_cam_plus_plus": "RefineCAM (of Grad-CAM++)", "score_cam": "Score-CAM (64 masks)",
                "expected_gradients": "expected gradients", "libragrad": "LibraGrad × input",
                "attention_rollout": "attention rollout", "gradient_rollout": "gradient-weighted rollout", "legrad": "LeGrad",
                "captum:guided_grad_cam": "guided Grad-CAM (Captum)",
                "captum:deep_lift": "DeepLift (Captum, of the logit)", "captum:gradient_shap": "GradientShap (Captum)",
                "captum:occlusion": "occlusion (Captum)",
            },
            "Captum's versions of the handwritten methods give the same values and are not repeated here. HiResCAM and all that "
            "follows it up to LeGrad were added later, on the first pictures only. Depth fusion is here as it "
            "is now; the other choices below were measured, in transformers, with it as it was before LibraGrad.",
        ),
        Choice(
            "output", "Output", "What is differentiated?",
            "The logit of the class; its log-odds, which say what the probability says; the probability itself; or the "
            "contrast, logit minus the runner-up's logit (in grids: minus the logit of the class in the next cell).",
            {"log_odds": "log-odds", "logit": "logit", "probability": "probability", "contrast": "contrast"},
            "Log-odds and probability have the same direction, so their maps have the same order and these scores cannot "
            "tell them apart until the probability's gradient fades to rounding noise.",
        ),
        Choice(
            "sign", "Sign", "Strength, or only what speaks for the class?",
            "A gradient's sign says whether a brighter pixel would help. Its magnitude says how much the pixel matters.",
            {"abs": "strength", "positive": "for", "negative": "against"},
        ),
        Choice(
            "channels", "Colour channels", "How do red, green and blue become one?",
            "The strongest channel; the root of the sum of squares; the sum of magnitudes; or the sum first, so that "
            "channels may cancel, and the magnitude after it.",
            {"max": "max", "l2": "l2", "sum_abs": "sum_abs", "sum": "sum"},
        ),
        Choice(
            "input", "Times the picture", "Is the gradient multiplied by the pixel?",
            "Times the picture, a black pixel gets nothing, whatever the network does with it.",
            {"off": "no", "on": "yes"},
        ),
        Choice(
            "clip", "Clip", "From which percentile on is a pixel shown at full strength?",
            "A few extreme pixels would darken all the others. Clipping keeps the order of all but those.",
            {"95": "95", "99": "99", "99.9": "99.9", "100": "no clipping"},
            "By the scores of faithfulness alone, no clipping at all is best, and then hardly anything can be seen. Clipping is "
            "there to be seen, so how much is shown is among the scores here.",
        ),
        Choice(
            "blur", "Smoothing of the map", "Is the finished map blurred?",
            "A Gaussian over the map, in pixels of the network's input. It makes maps that people like, and raises scores of "
            "noise, too: here each level is held against noise blurred alike.",
            {"0": "off", "1": "1 px", "2": "2 px", "4": "4 px", "8": "8 px"},
        ),
        Choice(
            "resolution", "Resolution", "Does it matter how fine the map is?",
            "The map averaged over blocks, and enlarged again; held against noise made coarse alike.",
            {"1": "pixels", "4": "4 px", "8": "8 px", "16": "16 px"},
        ),
        Choice(
            "upsampling", "Enlarging coarse maps", "How does a 7 × 7 map of Grad-CAM come to the size of the picture?",
            "Bilinear, with half-pixel centres; nearest, which shows the places as they are; or bicubic, which overshoots, "
            "and is cut off where it falls below 0.",
            {"bilinear": "bilinear", "nearest": "nearest", "bicubic": "bicubic"},
        ),
        Choice(
            "smoothing", "Averaging over noise", "Is the gradient averaged over noisy copies?",
            "SmoothGrad averages the gradient, SmoothGrad² its square, and VarGrad takes its variance: at 32 passes, σ .15.",
            {
                "none": "none", "smoothgrad": "SmoothGrad", "smoothgrad_squared": "SmoothGrad²", "vargrad": "VarGrad"
            },
        ),
        Choice(
            "samples", "Noisy copies", "How many does SmoothGrad take?",
            "The error of the mean falls as one over the root of their number.",
            {"4": "4", "16": "16", "32": "32"},
        ),
        Choice(
            "sigma", "Noise", "How strong is SmoothGrad's noise?",
            "Its standard deviation, as a fraction of the pixels' range.",
            {"0.05": ".05", "0.15": ".15", "0.3": ".3"},
        ),
    )
}  # fmt: skip
assert set(CHOICES) == set(FACTORS)


@functools.cache
def summary() -> dict:
    """The study's figures; see `ranking.summarise`."""
    return json.loads(SUMMARY.read_text("utf-8"))


def passes(factor: str, level: str) -> int:
    """How often the network runs for one map of a level, on a picture of 224 pixels; 1 for a level without settings."""
    variant = next((v for v in FACTORS[factor].levels if v.level == level), None)
    settings = dict(variant.source.settings) if variant else {}
    if "window" in settings:
        return ((round(1 / PIXEL) - settings["window"]) // settings["stride"] + 1) ** 2
    return passes_of(settings)

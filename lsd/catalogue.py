"""The models that are offered first, and the search through all the others.

Some forty pretrained networks, chosen to cover many ways of building one at sizes that a laptop runs, all ImageNet-1k,
all with safetensors on the Hugging Face Hub under licences that allow commercial use or, where noted by timm, research.
Parameter counts, in millions, are those of the networks as timm builds them.
"""

from dataclasses import dataclass

from lsd.models import ready_models


@dataclass(frozen=True)
class Entry:
    """One model on offer: its family as people call it, its name, its parameters in millions (None: not known yet),
    and whether it loads without a network."""

    family: str
    name: str
    millions: float | None
    ready: bool


CURATED: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = (
    ("BEiT", (("beitv2_base_patch16_224.in1k_ft_in22k_in1k", 86.5),)),
    ("CaiT", (("cait_xxs24_224.fb_dist_in1k", 12.0),)),
    ("CLIP ViT, fine-tuned", (("vit_base_patch16_clip_224.openai_ft_in1k", 86.6),)),
    ("CoAtNet and MaxViT", (("coatnet_0_rw_224.sw_in1k", 27.4), ("maxvit_tiny_tf_224.in1k", 30.9))),
    (
        "ConvNeXt",
        (
            ("convnext_atto.d2_in1k", 3.7),
            ("convnext_tiny.fb_in22k_ft_in1k", 28.6),
            ("convnext_base.fb_in22k_ft_in1k", 88.6),
        ),
    ),
    ("DeiT", (("deit_tiny_patch16_224.fb_in1k", 5.7), ("deit3_small_patch16_224.fb_in22k_ft_in1k", 22.1))),
    ("DenseNet", (("densenet121.ra_in1k", 8.0),)),
    ("EdgeNeXt", (("edgenext_small.usi_in1k", 5.6),)),
    ("EfficientNet", (("efficientnet_b0.ra_in1k", 5.3), ("tf_efficientnetv2_s.in21k_ft_in1k", 21.5))),
    ("EVA", (("eva02_tiny_patch14_336.mim_in22k_ft_in1k", 5.8),)),
    ("FocalNet", (("focalnet_tiny_srf.ms_in1k", 28.4),)),
    ("GhostNet", (("ghostnet_100.in1k", 5.2),)),
    ("Inception", (("inception_v3.tv_in1k", 23.8),)),
    ("LeViT", (("levit_128.fb_dist_in1k", 9.2),)),
    ("MetaFormer", (("poolformer_s12.sail_in1k", 11.9), ("caformer_s18.sail_in1k", 26.3))),
    ("MLP", (("resmlp_12_224.fb_in1k", 15.4), ("mixer_b16_224.goog_in21k_ft_in1k", 59.9))),
    (
        "MobileNet",
        (
            ("mobilenetv2_100.ra_in1k", 3.5),
            ("mobilenetv4_conv_small.e2400_r224_in1k", 3.8),
            ("mobilenetv3_large_100.ra_in1k", 5.5),
        ),
    ),
    ("NFNet", (("dm_nfnet_f0.dm_in1k", 71.5),)),
    ("PVT", (("pvt_v2_b1.in1k", 14.0),)),
    ("RegNet", (("regnety_016.tv2_in1k", 11.2),)),
    ("RepVGG", (("repvgg_a2.rvgg_in1k", 28.2),)),
    (
        "ResNet",
        (
            ("resnet18.a1_in1k", 11.7),
            ("resnext50_32x4d.a1h_in1k", 25.0),
            ("resnet50.a1_in1k", 25.6),
            ("seresnet50.ra2_in1k", 28.1),
            ("resnet101.a1h_in1k", 44.5),
        ),
    ),
    ("Swin", (("swin_tiny_patch4_window7_224.ms_in1k", 28.3), ("swinv2_tiny_window8_256.ms_in1k", 28.3))),
    ("VGG", (("vgg16_bn.tv_in1k", 138.4),)),
    (
        "ViT",
        (
            ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.7),
            ("vit_small_patch16_224.augreg_in21k_ft_in1k", 22.1),
            ("vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", 38.9),
            ("vit_base_patch16_224.augreg2_in21k_ft_in1k", 86.6),
        ),
    ),
    ("XCiT", (("xcit_tiny_12_p16_224.fb_in1k", 6.7),)),
)


def offered() -> list[Entry]:
    """What is offered first: the models that are ready here, then the curated ones by family and size."""
    ready = ready_models()
    here = [Entry("Ready here", name, None, True) for name in ready]
    curated = [
        Entry(family, name, millions, False) for family, entries in CURATED for name, millions in entries
        if name not in ready
    ]  # fmt: skip
    return here + curated


def search(pattern: str, limit: int = 200) -> list[str]:
    """Names of pretrained timm models that match: a timm wildcard (`resnet*`) or a part of the name."""
    import timm

    wildcard = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    return timm.list_models(wildcard, pretrained=True)[:limit]

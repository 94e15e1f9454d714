"""One tiny network of each timm family, with random weights: what the handwritten methods are checked on.

They are cut down in depth and width, because what matters here is how the blocks of a family are wired (in-place
activations, channels last, prefix tokens, attention pooling, gates), not what they have learned. timm's initialisation
would hide much of that: it starts residual branches and heads at zero. So every parameter is drawn anew.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import timm
import torch
from timm.models import byobnet, convmixer, focalnet, gcvit, metaformer, mlp_mixer, nest, pit, vgg, volo
from torch import nn

from lsd.evaluation.random_weights import randomize
from lsd.layout import Layer
from lsd.models import ImageModel

STEPS = 4  # a power of two: Captum rounds the weights of its quadrature to fp32, and 1/4 stands that
METHODS = {
    "gradient": {},
    "gradient_x_input": {},
    "smoothgrad": {"samples": 2, "antithetic": False},
    "smoothgrad_squared": {"samples": 2, "antithetic": False},
    "vargrad": {"samples": 2, "antithetic": False},
    "integrated_gradients": {"steps": STEPS, "quadrature_kind": "midpoint"},
    "guided_backprop": {},
    "deconvnet": {},
    "grad_cam": {},
    "depth_fusion": {},
}
"""What is compared, and with which settings: small, as agreement does not depend on them."""


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        name: timm's name of the architecture.
        settings: what makes it small, passed to `timm.create_model`.
        size: side of its input.
        make: makes the network instead, for architectures whose timm functions take no such settings.
        other: the non-linearity for which guided backpropagation and the deconvnet are refused; "" where they are not.
        captum_blind: True where all non-linearities are rectifiers, but not all of them `nn.ReLU`, which is all that
            Captum knows.
    """

    name: str
    settings: dict = field(default_factory=dict)
    size: int = 64
    make: Callable[[], nn.Module] | None = None
    other: str = ""
    captum_blind: bool = False

    @property
    def family(self) -> str:
        """timm's name of the module that defines it."""
        return timm.model_entrypoint(self.name).__module__.rpartition(".")[2]

    def build(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> ImageModel:
        """The model, with random weights that depend on `seed` alone."""
        net = self.make() if self.make else timm.create_model(self.name, num_classes=10, **self.settings)
        net.pretrained_cfg = {
            "mean": (0.5, 0.45, 0.4), "std": (0.25, 0.24, 0.26), **(getattr(net, "pretrained_cfg", None) or {}),
            "architecture": self.name, "input_size": (3, self.size, self.size),
        }  # fmt: skip
        return ImageModel(randomize(net, seed), self.name).to(dtype)


def nothing_to_compare(case: Case, method: str, deepest: Layer) -> str:
    """Words of the refusal that is expected for `method` on that network; "" where the two can be compared."""
    if method in ("guided_backprop", "deconvnet"):
        return f"uses {case.other}" if case.other else "nn.ReLU modules only" if case.captum_blind else ""
    if method == "grad_cam" and deepest.layout != "nchw":
        return f"laid out as {deepest.layout}"
    return ""


def _small(**more) -> dict:
    return {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3} | more


def _clip_resnet() -> nn.Module:
    blocks = tuple(dataclasses.replace(b, d=1, c=b.c // 8) for b in byobnet.model_cfgs["resnet50_clip"].blocks)
    cfg = dataclasses.replace(byobnet.model_cfgs["resnet50_clip"], blocks=blocks, stem_chs=16, width_factor=1.0)
    return byobnet.ByobNet(cfg, num_classes=10, img_size=64)


def _poolformer(act: type[nn.Module]) -> nn.Module:
    return metaformer.MetaFormer(
        num_classes=10, depths=(1, 1, 1, 1), dims=(16, 24, 32, 48), mlp_act=act, use_mlp_head=False
    )


_ONES = (1, 1, 1, 1)

CASES = (
    # Convolutional networks; most of them with in-place ReLUs.
    Case("test_resnet"),
    Case("legacy_seresnet18", {"layers": _ONES}),  # squeeze and excitation
    Case("regnety_002"),
    Case("vgg11", make=lambda: vgg.VGG([8, "M", 12, "M", 16, "M", 16, "M", 16], num_classes=10)),
    Case("densenet121", {"block_config": (2, 2, 2, 2), "growth_rate": 8}),
    Case("dla46_c"),
    Case("dpn48b", {"k_sec": _ONES}, other="SiLU"),
    Case("hrnet_w18_small", size=32),
    Case("res2net50_26w_4s", {"layers": _ONES, "base_width": 8}),
    Case("resnest14d", {"base_width": 16}),
    Case("resnetv2_18", {"layers": _ONES}),  # activation before the convolution
    Case("tresnet_m", {"layers": _ONES, "width_factor": 0.25}, other="LeakyReLU"),
    Case("ese_vovnet19b_slim_dw"),
    Case("hgnetv2_b0"),
    Case("ghostnet_050", size=32),
    Case("repghostnet_050", size=32),
    Case("fasternet_t0", other="GELU"),
    Case("inception_v3", size=80),  # unpadded convolutions
    Case("test_byobnet"),
    Case("repvgg_a0", size=32),
    Case("resnet50_clip", make=_clip_resnet),  # attention pooling
    # Convolutional networks with other non-linearities.
    Case("rexnet_100", size=32, other="SiLU"),
    Case("mobilenetv2_050", size=32, captum_blind=True),  # ReLU6
    Case("test_efficientnet", other="SiLU"),
    Case("mobilenetv3_small_050", other="HardSwish"),  # ReLU in some blocks, HardSwish in others
    Case("cs3darknet_focus_s", other="SiLU"),
    Case("starnet_s050", captum_blind=True),
    Case("repvit_m1", {"depth": _ONES}, other="GELU"),
    Case("test_nfnet", other="SiLU"),  # standardised weights, no normalisation
    Case("test_convnext", other="GELU"),
    Case("inception_next_atto", {"depths": _ONES}, other="GELU"),
    Case("fastvit_t8", {"layers": _ONES}, other="GELU"),
    Case("convmixer_768_32", size=56, make=lambda: convmixer.ConvMixer(32, 2, num_classes=10), other="GELU"),
    Case("poolformer_s12", make=lambda: _poolformer(nn.GELU), other="GELU"),
    Case("test_mambaout", other="SiLU"),
    # Channels last, windows.
    Case("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2, "depths": (1, 1, 2, 1), "embed_dim": 24},
         other="GELU"),
    Case("swinv2_tiny_window8_256", {"img_size": 64, "window_size": 2, "depths": (1, 1, 2, 1), "embed_dim": 24},
         other="GELU"),
    Case("focalnet_tiny_srf", make=lambda: focalnet.FocalNet(num_classes=10, embed_dim=16, depths=_ONES), other="GELU"),
    Case("gcvit_xxtiny", make=lambda: gcvit.GlobalContextVit(
        num_classes=10, img_size=64, embed_dim=16, depths=_ONES, window_size=(4, 4, 4, 2)), other="GELU"),
    Case("davit_tiny", {"depths": _ONES, "embed_dims": (24, 48, 96, 96)}, other="GELU"),
    Case("hiera_tiny_224", {"img_size": 64, "embed_dim": 24, "stages": _ONES}, other="GELU"),
    # Hybrids.
    Case("test_coatnet", {"img_size": 64}, other="SiLU"),
    Case("test_maxvit", {"img_size": 64}, other="SiLU"),
    Case("levit_128s", {"img_size": 64, "depth": (1, 1, 1), "embed_dim": (32, 48, 64)}, other="HardSwish"),
    Case("mobilevit_xxs", size=32, other="SiLU"),
    Case("edgenext_xx_small", {"depths": (1, 1, 2, 1)}, other="GELU"),
    Case("efficientformerv2_s0", {"img_size": 64, "depths": _ONES}, other="GELU"),
    Case("pvt_v2_b0", {"depths": _ONES, "embed_dims": (16, 32, 40, 64)}, other="GELU"),
    Case("twins_svt_small", {"img_size": 64, "depths": _ONES, "embed_dims": (16, 32, 48, 64)}, other="GELU"),
    Case("visformer_tiny", {"img_size": 64, "depth": (1, 1, 1), "embed_dim": 48, "init_channels": 8}, other="GELU"),
    Case("nest_tiny", make=lambda: nest.Nest(
        64, num_classes=10, embed_dims=(16, 32, 48), num_heads=(2, 2, 2), depths=(1, 1, 1)), other="GELU"),
    Case("pit_ti_224", make=lambda: pit.PoolingVisionTransformer(
        64, num_classes=10, base_dims=(16, 16, 16), depth=(1, 1, 1)), other="GELU"),
    Case("efficientvit_b0", size=32, other="HardSwish"),
    # Transformers.
    Case("test_vit", {"img_size": 64}, other="GELU"),  # class token
    Case("vit_base_patch16_reg4_gap_256", _small(), other="GELU"),  # registers, mean over the patches
    Case("vit_base_patch16_siglip_224", _small(), other="GELU"),  # attention pooling
    # Two class tokens.
    Case("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2, "embed_dim": 48}, other="GELU"),
    Case("eva02_tiny_patch14_224", _small(img_size=56), size=56, other="SiLU"),  # rotary positions, SwiGLU
    Case("beit_base_patch16_224", _small(), other="GELU"),
    Case("cait_xxs24_224", _small(), other="GELU"),
    Case("xcit_nano_12_p16_224", {"img_size": 64, "depth": 2, "embed_dim": 48}, other="GELU"),
    Case("vit_relpos_small_patch16_224", _small(), other="GELU"),
    Case("convit_tiny", {"img_size": 64, "depth": 2, "local_up_to_layer": 1, "embed_dim": 12}, other="GELU"),
    Case("crossvit_tiny_240", {"img_size": 120, "depth": [[1, 1, 0]]}, size=120, other="GELU"),
    Case("tnt_s_legacy_patch16_224", {"img_size": 64, "depth": 1}, other="GELU"),
    Case("volo_d1_224", make=lambda: volo.VOLO(
        [1, 1, 1, 1], 64, num_classes=10, embed_dims=[24, 48, 48, 48], num_heads=[2, 4, 4, 4], stem_hidden_dim=16),
        other="GELU"),
    Case("mixer_s32_224", make=lambda: mlp_mixer.MlpMixer(10, 64, num_blocks=2, embed_dim=48), other="GELU"),
)  # fmt: skip

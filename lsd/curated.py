"""Some forty pretrained networks, chosen to cover many ways of building one at sizes that a laptop runs.

All are of ImageNet-1k, with safetensors on the Hugging Face Hub under licences that allow commercial use or, where noted by timm,
research. Parameter counts, in millions, are those of the networks as timm builds them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """A network of the catalogue: its family and itself as people call them, timm's name, parameters in millions."""

    family: str
    title: str
    name: str
    millions: float


CURATED: tuple[Network, ...] = (
    Network("BEiT", "BEiT v2-B/16", "beitv2_base_patch16_224.in1k_ft_in22k_in1k", 86.5),
    Network("CaiT", "CaiT-XXS-24", "cait_xxs24_224.fb_dist_in1k", 12.0),
    Network("CLIP ViT, fine-tuned", "CLIP ViT-B/16, fine-tuned", "vit_base_patch16_clip_224.openai_ft_in1k", 86.6),
    Network("CoAtNet and MaxViT", "CoAtNet-0", "coatnet_0_rw_224.sw_in1k", 27.4),
    Network("CoAtNet and MaxViT", "MaxViT-T", "maxvit_tiny_tf_224.in1k", 30.9),
    Network("ConvNeXt", "ConvNeXt-Atto", "convnext_atto.d2_in1k", 3.7),
    Network("ConvNeXt", "ConvNeXt-T", "convnext_tiny.fb_in22k_ft_in1k", 28.6),
    Network("ConvNeXt", "ConvNeXt-B", "convnext_base.fb_in22k_ft_in1k", 88.6),
    Network("DeiT", "DeiT-Ti/16", "deit_tiny_patch16_224.fb_in1k", 5.7),
    Network("DeiT", "DeiT III-S/16", "deit3_small_patch16_224.fb_in22k_ft_in1k", 22.1),
    Network("DenseNet", "DenseNet-121", "densenet121.ra_in1k", 8.0),
    Network("EdgeNeXt", "EdgeNeXt-S", "edgenext_small.usi_in1k", 5.6),
    Network("EfficientNet", "EfficientNet-Lite0", "tf_efficientnet_lite0.in1k", 4.7),
    Network("EfficientNet", "EfficientNet-B0", "efficientnet_b0.ra_in1k", 5.3),
    Network("EfficientNet", "EfficientNet-Lite1", "tf_efficientnet_lite1.in1k", 5.4),
    Network("EfficientNet", "EfficientNet-Lite2", "tf_efficientnet_lite2.in1k", 6.1),
    Network("EfficientNet", "EfficientNetV2-S", "tf_efficientnetv2_s.in21k_ft_in1k", 21.5),
    Network("EVA", "EVA-02-Ti/14", "eva02_tiny_patch14_336.mim_in22k_ft_in1k", 5.8),
    Network("FocalNet", "FocalNet-T", "focalnet_tiny_srf.ms_in1k", 28.4),
    Network("GhostNet", "GhostNet", "ghostnet_100.in1k", 5.2),
    Network("Inception", "Inception-v3", "inception_v3.tv_in1k", 23.8),
    Network("LeViT", "LeViT-128", "levit_128.fb_dist_in1k", 9.2),
    Network("MetaFormer", "PoolFormer-S12", "poolformer_s12.sail_in1k", 11.9),
    Network("MetaFormer", "CAFormer-S18", "caformer_s18.sail_in1k", 26.3),
    Network("MLP", "ResMLP-12", "resmlp_12_224.fb_in1k", 15.4),
    Network("MLP", "MLP-Mixer-B/16", "mixer_b16_224.goog_in21k_ft_in1k", 59.9),
    Network("MobileNet", "MobileNetV2", "mobilenetv2_100.ra_in1k", 3.5),
    Network("MobileNet", "MobileNetV4-Conv-S", "mobilenetv4_conv_small.e2400_r224_in1k", 3.8),
    Network("MobileNet", "MobileNetV3-Large", "mobilenetv3_large_100.ra_in1k", 5.5),
    Network("NFNet", "NFNet-F0", "dm_nfnet_f0.dm_in1k", 71.5),
    Network("PVT", "PVT v2-B1", "pvt_v2_b1.in1k", 14.0),
    Network("RegNet", "RegNetY-1.6GF", "regnety_016.tv2_in1k", 11.2),
    Network("RepVGG", "RepVGG-A2", "repvgg_a2.rvgg_in1k", 28.2),
    Network("ResNet", "ResNet-18", "resnet18.a1_in1k", 11.7),
    Network("ResNet", "ResNeXt-50 32×4d", "resnext50_32x4d.a1h_in1k", 25.0),
    Network("ResNet", "ResNet-50", "resnet50.a1_in1k", 25.6),
    Network("ResNet", "SE-ResNet-50", "seresnet50.ra2_in1k", 28.1),
    Network("ResNet", "ResNet-101", "resnet101.a1h_in1k", 44.5),
    Network("Swin", "Swin-T", "swin_tiny_patch4_window7_224.ms_in1k", 28.3),
    Network("Swin", "Swin V2-T", "swinv2_tiny_window8_256.ms_in1k", 28.3),
    Network("VGG", "VGG-16, batch norm", "vgg16_bn.tv_in1k", 138.4),
    Network("ViT", "ViT-Ti/16", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.7),
    Network("ViT", "ViT-S/16", "vit_small_patch16_224.augreg_in21k_ft_in1k", 22.1),
    Network("ViT", "ViT-M/16, registers", "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", 38.9),
    Network("ViT", "ViT-B/16", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 86.6),
    Network("XCiT", "XCiT-T12/16", "xcit_tiny_12_p16_224.fb_in1k", 6.7),
)

"""The models on offer."""

import pytest
import timm
import torch

from lsd import catalogue


def test_every_curated_model_has_weights_on_the_hub():
    names = [network.name for network in catalogue.CURATED]
    assert len(names) == len(set(names)) >= 40
    assert len({network.family for network in catalogue.CURATED}) >= 15
    for name in names:
        assert timm.get_pretrained_cfg(name, allow_unregistered=False).hf_hub_id == f"timm/{name}"


def test_families_and_sizes_are_in_order():
    order = [(network.family.lower(), network.millions) for network in catalogue.CURATED]
    assert order == sorted(order)


def test_every_network_has_a_name_that_people_use():
    titles = [network.title for network in catalogue.CURATED]
    assert len(titles) == len(set(titles)) and not any("_" in title for title in titles)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("tf_efficientnet_lite0.in1k", "EfficientNet-Lite0"),
        ("resnet50.a1_in1k", "ResNet-50"),
        ("resnet50.somebodys_own", "ResNet-50 (somebodys_own)"),
        ("resnet50", "resnet50"),
        ("demo:vit", "Demo XCiT"),
        ("demo:another", "Demo another"),
        ("hf-hub:owner/repo", "hf-hub:owner/repo"),
        ("my_network", "my_network"),
    ],
)
def test_what_people_call_a_model(name, title):
    assert catalogue.common_name(name) == title


def test_sizes_are_those_of_the_networks():
    for name, millions in [("resnet18.a1_in1k", 11.7), ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.7)]:
        with torch.device("meta"):
            network = timm.create_model(name)
        assert abs(sum(p.numel() for p in network.parameters()) / 1e6 - millions) < 0.06
        assert millions in [network.millions for network in catalogue.CURATED if network.name == name]


def test_what_is_here_comes_first_and_each_says_where_it_comes_from(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    offered = catalogue.offered()
    here = [entry.origin == "here" for entry in offered]
    assert here == sorted(here, reverse=True) and offered[0].title == "EfficientNet-Lite0"
    assert {entry.name: entry.origin for entry in offered}["resnet50.a1_in1k"] == "on the Hub, 102 MB"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert {entry.name: entry.origin for entry in catalogue.offered()}["resnet50.a1_in1k"].endswith(
        "102 MB, out of reach"
    )


def test_the_search_takes_parts_and_wildcards():
    assert "convnext_tiny.fb_in1k" in catalogue.search("convnext_tiny*")
    assert "convnext_tiny.fb_in1k" in catalogue.search("next_tiny.fb_in1k")

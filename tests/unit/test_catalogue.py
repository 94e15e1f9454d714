"""The models on offer."""

import timm
import torch

from lsd import catalogue


def test_every_curated_model_has_weights_on_the_hub():
    names = [name for _, entries in catalogue.CURATED for name, _ in entries]
    assert len(names) == len(set(names)) >= 40
    assert len(catalogue.CURATED) >= 15
    for name in names:
        assert timm.get_pretrained_cfg(name, allow_unregistered=False).hf_hub_id, name


def test_families_and_sizes_are_in_order():
    families = [family.lower() for family, _ in catalogue.CURATED]
    assert families == sorted(families)
    for _, entries in catalogue.CURATED:
        assert [m for _, m in entries] == sorted(m for _, m in entries)


def test_sizes_are_those_of_the_networks():
    for name, millions in [("resnet18.a1_in1k", 11.7), ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.7)]:
        with torch.device("meta"):
            network = timm.create_model(name)
        assert abs(sum(p.numel() for p in network.parameters()) / 1e6 - millions) < 0.06
        assert millions in [m for _, entries in catalogue.CURATED for n, m in entries if n == name]


def test_what_is_ready_comes_first():
    offered = catalogue.offered()
    ready = [entry.ready for entry in offered]
    assert ready == sorted(ready, reverse=True)
    assert offered[0].ready


def test_the_search_takes_parts_and_wildcards():
    assert "convnext_tiny.fb_in1k" in catalogue.search("convnext_tiny*")
    assert "convnext_tiny.fb_in1k" in catalogue.search("next_tiny.fb_in1k")

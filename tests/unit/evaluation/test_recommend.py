"""Which method for this network: from the study's figures, and from what is defined."""

import pytest

from lsd.cli import main
from lsd.evaluation.choices import summary
from lsd.evaluation.recommend import BLIND, places, recommend, refusals
from lsd.models import get_model
from lsd.saliency.methods import METHODS


def slowly(method, networks):
    """Share of the others that it is ahead of, comparison by comparison."""
    told = summary()
    levels, wins = told["factors"]["method"]["levels"], []
    for metric in told["metrics"]:
        for network in networks:
            try:
                mine = levels[method][metric["name"]]["models"][network][0]
            except KeyError:
                continue
            points = []
            for other in levels:
                if other != method and network in levels[other].get(metric["name"], {}).get("models", {}):
                    value = levels[other][metric["name"]]["models"][network][0]
                    better = mine > value if metric["better"] == "higher" else mine < value
                    points.append(1 if better else 0.5 if mine == value else 0)
            wins.append(sum(points) / len(points))
    return sum(wins) / len(wins)


@pytest.mark.parametrize(
    "networks", [("resnet50.tf_uint8_in1k", "demo:resnet"), ("vit_tiny_patch16_224.augreg_in1k",), ("demo:convnext",)]
)
def test_places_are_counted_comparison_by_comparison(networks):
    found = places(networks)
    assert [p.ahead for p in found] == sorted((p.ahead for p in found), reverse=True) and len(found) > 5
    for place in found:
        assert place.ahead == pytest.approx(slowly(place.level, networks)), place.level


def test_a_family_is_timms_module_or_else_the_kind(image_model):
    assert recommend(image_model("test_resnet", 32)).networks == ("demo:resnet", "resnet50.tf_uint8_in1k")
    assert recommend(get_model("demo:convnext")).family == "convnext networks"
    regnet = recommend(image_model("regnetx_002", 32))
    assert regnet.family == "convolutional networks" and "resnet50.tf_uint8_in1k" in regnet.networks
    assert not any("vit" in name for name in regnet.networks)
    eva = recommend(image_model("eva02_tiny_patch14_224", 28, depth=2, embed_dim=48, num_heads=3))
    assert eva.family == "transformers" and set(eva.networks) == {"demo:vit", "vit_tiny_patch16_224.augreg_in1k"}


def test_what_is_blind_or_not_defined_is_not_recommended():
    model = get_model("demo:resnet")
    untried, tried = recommend(model), recommend(model, {})
    guided = next(p for p in untried.places if p.method == "guided_backprop")
    assert guided.is_blind and guided.forgets > BLIND
    for told in (untried, tried, recommend(model, {"depth_fusion": "no"})):
        assert not told.best.is_blind and not told.best.is_dear
        assert told.dearer is None or told.dearer.ahead >= told.best.ahead
    against = summary()["factors"]["method"]["against"]
    assert untried.best.method == "depth_fusion"  # what not all networks have is not recommended before it was tried
    assert all(against[p.level]["everywhere"] for p in (untried.dearer,) if p)
    assert recommend(model, {"depth_fusion": "no"}).best.method not in ("depth_fusion", "guided_backprop")
    nothing = recommend(model, dict.fromkeys(METHODS, "no"))
    assert nothing.best is None and str(nothing) == "None of the methods that were scored is defined for this network."
    assert str(untried).startswith(
        "On the resnet networks of the study (Demo ResNet, ResNet-50 (tf_uint8_in1k)), of what takes one"
    )
    assert f"depth fusion did best, ahead of the other methods in {untried.best.ahead:.0%}" in str(untried)


def test_what_is_not_defined_is_found_by_trying(image_model, pictures):
    found = refusals(
        image_model("test_vit", 64), pictures(1, 64), ["gradient", "guided_backprop", "captum:grad_cam", "smoothgrad"]
    )
    assert set(found) == {"guided_backprop", "captum:grad_cam"} and "uses GELU" in found["guided_backprop"]


def test_the_command(capsys):
    assert main(["methods", "--model", "demo:resnet", "example:Coffee cup"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Demo ResNet: On the resnet networks of the study") and "guided_backprop  blind" in told
    assert "captum:deep_lift" in told
    assert main(["methods"]) == 2
    assert "Which model?" in capsys.readouterr().err

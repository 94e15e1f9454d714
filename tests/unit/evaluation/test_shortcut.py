"""The whole way, on the demo model that reads the corner tag: its mistakes, their maps, and the probe."""

import numpy as np
import pytest

from lsd.demo import demo_models
from lsd.evaluation.contrast_maps import mistake_maps, share_inside, strength
from lsd.evaluation.labelled import open_set
from lsd.evaluation.mistakes import scan, select
from lsd.evaluation.probe import probe
from lsd.models import load_model
from lsd.saliency.explain import to_input

pytestmark = [
    pytest.mark.skipif("shortcut" not in demo_models(), reason="the demo model “shortcut” is not trained yet"),
    pytest.mark.usefixtures("one_thread"),
]

FRACTIONS = (0.02, 0.04)
METHODS = {"gradient": {}, "smoothgrad": {"samples": 8}}
COUNT = 8  # mistakes looked at


@pytest.fixture(scope="module")
def model():
    return load_model("demo:shortcut", device="cpu")


def result_of(model, name, limit=64):
    *_, last = scan([model], open_set(name, limit=limit))
    return last.result


@pytest.fixture(scope="module")
def misled(model):
    return result_of(model, "demo:misleading-tags")


def test_it_believes_the_tag(model, misled):
    tags = np.array([item.tag for item in misled.items])
    assert (misled.predicted[0] == tags).mean() > 0.7
    assert result_of(model, "demo:true-tags").accuracy(model.name).low > misled.accuracy(model.name).high


@pytest.fixture(scope="module", params=METHODS)
def explained(request, model, misled):
    """(saliency of predicted − true, tag's mask, probe) for some of the mistakes that follow the tag."""
    rows = []
    for mistake in [m for m in select(misled, sort="set") if m.predicted == m.item.tag][:COUNT]:
        image = to_input(model, mistake.item.picture())
        maps = mistake_maps(model, image, mistake.true, mistake.predicted, request.param, **METHODS[request.param])
        saliency = strength(maps["contrast"], image.shape[-2:])
        probed = probe(
            model, image, saliency, fractions=FRACTIONS, classes=(mistake.predicted, mistake.true), random_repeats=3
        )
        assert probed.top1_before == mistake.predicted
        rows.append((saliency, mistake.item.tag_mask(), probed))
    return rows


def test_the_maps_point_at_the_tag(explained):
    ratios = [share_inside(saliency, mask) / mask.mean() for saliency, mask, _ in explained]
    assert len(ratios) == COUNT and min(ratios) > 2 and np.mean(ratios) > 5


def test_removing_by_the_map_changes_the_decision_and_at_random_does_not(explained):
    probes = [probed for *_, probed in explained]
    by_map = np.mean([probed.top1 != probed.top1_before for probed in probes], axis=0)
    assert (by_map > 0.6).all()
    for name in probes[0].controls:
        by_chance = np.mean([p.controls[name].top1 != p.top1_before for p in probes], axis=(0, 1))
        assert (by_map > by_chance + 0.3).all()
        assert np.mean([p.controls[name].mean[:, 0] - p.probability[:, 0] for p in probes]) > 0.3

"""What trust rows say where the answer is known beforehand."""

import numpy as np
import pytest
import torch

from lsd.evaluation import metrics
from lsd.evaluation.choices import as_measured
from lsd.evaluation.controls import edges
from lsd.evaluation.impossible import disconnected
from lsd.evaluation.randomize import cascade
from lsd.evaluation.trust import STEPS, tried, trust_rows
from lsd.evaluation.variants import FACTORS, Drawing, draw
from lsd.saliency.methods import METHODS, attribute
from lsd.saliency.targets import Target

CLASSES = [3, 8]
STAGES = 6
RECTIFIED = {"guided_backprop", "deconvnet", "captum:guided_grad_cam"}
FOR_TRANSFORMERS = {name for name, method in METHODS.items() if method.for_transformers}
NOT_TRIED = {"refine_cam:grad_cam_plus_plus", "captum:deep_lift", "captum:gradient_shap", "captum:occlusion"}
MEASURES = {
    "edges",
    "impossible",
    "sensitivity",
    *(f"{k}/{i}" for k in ("rank_signed", "rank_abs", "ssim") for i in range(6)),
}


def table(rows):
    """(item, method, measure) → value, each there once."""
    found = {(item, name.removeprefix("method/"), measure): value for item, name, measure, value in rows}
    assert len(found) == len(rows) and all(name.startswith("method/") for _, name, *_ in rows)
    assert all(np.isfinite(value) for value in found.values())
    return found


def state(model):
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    return {name: t.clone() for name, t in model.state_dict().items()}, flags


NETS = {"test_resnet": (64, {}), "test_vit": (32, {"img_size": 32})}


@pytest.fixture(scope="module")
def images(pictures):
    return {name: list(pictures(2, size).float().numpy()) for name, (size, _) in NETS.items()}


@pytest.fixture(scope="module")
def run(image_model, images):
    """Model's name → the model, its rows, and whether the rows' making changed it."""
    made = {}
    for name, (size, settings) in NETS.items():
        model = image_model(name, size, torch.float32, **settings)
        before = state(model)
        rows = table(trust_rows(model, images[name], CLASSES, 2))
        tensors, flags = state(model)
        same = flags == before[1] and all(torch.equal(tensor, before[0][key]) for key, tensor in tensors.items())
        made[name] = model, rows, same
    return made


def test_every_method_is_measured_in_every_way(run):
    assert {v.level for v in tried(2)} == {v.level for v in FACTORS["method"].levels} - NOT_TRIED
    for name, refused in (("test_resnet", FOR_TRANSFORMERS), ("test_vit", RECTIFIED)):
        _, rows, _ = run[name]
        methods = {v.level for v in tried(2)} - refused
        assert {method for _, method, _ in rows} == methods
        for item in "01":
            for method in methods:
                expected = MEASURES | (
                    {f"completeness/{n}" for n in STEPS} if method == "integrated_gradients" else set()
                )
                missing = expected - {m for i, own, m in rows if (i, own) == (item, method)}
                # Of a random network, Grad-CAM's layer can be another, and in tokens its cells are not cut apart.
                assert not missing or "cam" in method or method in ("depth_fusion", *FOR_TRANSFORMERS), (
                    method,
                    missing,
                )
        assert {item for item, *_ in rows} == {"0", "1"}
        assert {m for _, method, m in rows if method == "gradient"} == MEASURES


def test_what_is_impossible(run):
    for _, rows, _ in run.values():
        for item in "01":
            for method in ("gradient", "gradient_x_input", "smoothgrad", "vargrad", "integrated_gradients"):
                assert 0.9 < rows[item, method, "impossible"] <= 1  # a pixel's blur reaches over the border
    _, rows, _ = run["test_resnet"]
    assert all(rows[item, "grad_cam", "impossible"] < 0.999 for item in "01")  # its weights are of the whole layer


def test_the_impossible_share_is_that_of_the_right_cell(run, images):
    model, rows, _ = run["test_resnet"]
    network = disconnected(model, 2, [3, 8, 3, 8])
    for cell, image in enumerate(images["test_resnet"]):
        values = attribute("grad_cam", network, torch.from_numpy(image)[None], Target(cell, "logit")).values[0].numpy()
        share = metrics.cell_share(draw(values, Drawing(sign="positive"), image), 2, cell)
        assert rows[f"{cell}", "grad_cam", "impossible"] == pytest.approx(share)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_randomization_holds_maps_against_those_of_the_trained_network(run, images, name):
    model, rows, _ = run[name]
    batch = torch.from_numpy(np.stack(images[name]))
    stages = list(cascade(model, torch.cat([batch, batch.flip(3)])))
    assert len(stages) == STAGES
    for item, (image, index) in enumerate(zip(images[name], CLASSES, strict=True)):
        one = torch.from_numpy(image)[None]
        before = attribute("gradient", model, one, Target(index)).values[0].numpy()
        outline = metrics.rank_correlation(draw(before, Drawing(), image), edges(image, 0))
        assert rows[f"{item}", "gradient", "edges"] == pytest.approx(outline)
        for number in (0, 3, 5):
            after = attribute("gradient", stages[number][1], one, Target(index)).values[0].numpy()
            maps = [draw(values, Drawing(), image) for values in (before, after)]
            expected = {
                "rank_signed": metrics.rank_correlation(before.sum(0), after.sum(0)),
                "rank_abs": metrics.rank_correlation(*maps), "ssim": metrics.similarity(*maps),
            }  # fmt: skip
            for measure, value in expected.items():
                assert rows[f"{item}", "gradient", f"{measure}/{number}"] == pytest.approx(value, abs=1e-6)
        assert abs(rows[f"{item}", "gradient", f"rank_signed/{STAGES - 1}"]) < 0.3  # nothing is left of what it knew


def test_sensitivity_is_the_most_that_noise_moves_a_map(run, images):
    model, rows, _ = run["test_vit"]
    for method, settings in (("gradient", {}), ("smoothgrad", {"samples": 2})):

        def explain(x, method=method, settings=settings):
            values = attribute(method, model, x, Target(CLASSES[1]), **settings).values[0].numpy()
            return draw(values, Drawing(), x[0].numpy())

        expected = metrics.max_sensitivity(
            explain, torch.from_numpy(images["test_vit"][1])[None], radius=0.02, samples=3
        )
        assert rows["1", method, "sensitivity"] == pytest.approx(expected, rel=1e-4)
    moved = {m: value for (_, m, measure), value in rows.items() if measure == "sensitivity"}
    assert all(value > 0 or METHODS[m].layer or METHODS[m].values == "for" for m, value in moved.items())


def test_completeness_falls_with_the_steps(run, images):
    for name, (model, rows, _) in run.items():
        errors = np.array([[rows[item, "integrated_gradients", f"completeness/{n}"] for n in STEPS] for item in "01"])
        assert (errors >= 0).all() and errors[:, -1].max() < errors[:, 0].max() and errors[:, -1].max() < 0.1
        one = torch.from_numpy(images[name][0])[None]
        result = attribute("integrated_gradients", model, one, Target(CLASSES[0]), steps=4)
        with torch.no_grad():
            change = (Target(CLASSES[0])(model(one)) - Target(CLASSES[0])(model(model.mean.expand_as(one)))).item()
        assert errors[0, 0] == pytest.approx(abs(result.values.sum().item() - change) / abs(change), rel=0.01)


def test_a_picture_has_the_same_rows_alone_and_every_time(run, images):
    """But for batch normalization, which is fitted to all of them."""
    model, rows, _ = run["test_vit"]
    alone = table(trust_rows(model, images["test_vit"][:1], CLASSES[:1], 2))
    assert alone == pytest.approx({key: value for key, value in rows.items() if key[0] == "0"}, abs=1e-6)


def test_some_methods_alone_have_the_same_rows_drawn_as_they_are_told(run, images):
    model, rows, _ = run["test_vit"]
    few = [FACTORS["method"].on("", level) for level in ("hires_cam", "score_cam")]
    alone = table(trust_rows(model, images["test_vit"], CLASSES, 2, few))
    expected = {key: value for key, value in rows.items() if key[1] in ("hires_cam", "score_cam")}
    assert expected and alone == pytest.approx(expected, abs=1e-6)
    other = table(trust_rows(model, images["test_vit"], CLASSES, 2, [as_measured(v) for v in few]))
    assert other.keys() == alone.keys() and other != pytest.approx(alone, abs=1e-3)


def test_the_model_stays_as_it_is(run):
    assert all(same for _, _, same in run.values())

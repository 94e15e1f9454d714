import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lsd.errors import UndefinedError
from lsd.evaluation.impossible import cells, disconnected
from lsd.saliency.gradients import grad_cam, gradient, integrated_gradients, smoothgrad
from lsd.saliency.targets import Target

SIZE = 64
CLASSES = {2: [3, 1, 4, 1], 3: [5, 9, 2, 6, 5, 3, 5, 8, 0]}
NETS = [
    ("test_resnet", {}),
    ("test_efficientnet", {}),
    ("test_convnext", {}),
    ("test_vit", {"img_size": SIZE}),  # tokens
    ("test_mambaout", {}),  # channels last
]
nets = pytest.mark.parametrize("name, settings", NETS, ids=[name for name, _ in NETS])


def zoomed(images, cell):
    rows, columns = cell
    return F.interpolate(images[:, :, rows, columns], (SIZE, SIZE), mode="bilinear", align_corners=False)


def outside(values, cell):
    rows, columns = cell
    values = values.clone()
    values[:, :, rows, columns] = 0
    return values


@pytest.mark.parametrize("height, width, n", [(64, 64, 2), (64, 64, 3), (224, 224, 3), (10, 7, 4), (5, 5, 5)])
def test_cells_cut_a_picture(height, width, n):
    found = cells(height, width, n)
    assert len(found) == n * n
    place = np.full((height, width), -1)
    for j, (rows, columns) in enumerate(found):
        assert (place[rows, columns] == -1).all()
        place[rows, columns] = j
        assert abs(rows.stop - rows.start - height / n) < 1 and abs(columns.stop - columns.start - width / n) < 1
    assert place.min() == 0  # no pixel is left
    assert (np.diff(place[:, 0]) >= 0).all() and (np.diff(place[0]) >= 0).all() and place[0, -1] == n - 1


@nets
@pytest.mark.parametrize("n", [2, 3])  # 3 does not divide 64
def test_the_logits_are_the_models_own_in_each_cell(image_model, pictures, name, settings, n):
    model, images = image_model(name, SIZE, **settings), pictures(2, SIZE)
    logits = disconnected(model, n, CLASSES[n])(images)
    own = [model(zoomed(images, cell))[:, index] for cell, index in zip(cells(SIZE, SIZE, n), CLASSES[n], strict=True)]
    torch.testing.assert_close(logits, torch.stack(own, 1), rtol=1e-9, atol=1e-9)


@nets
@pytest.mark.parametrize("n", [2, 3])
def test_the_gradient_stays_in_its_cell(image_model, pictures, name, settings, n):
    model, images = image_model(name, SIZE, **settings), pictures(2, SIZE)
    places = cells(SIZE, SIZE, n)
    found = gradient(disconnected(model, n, CLASSES[n]), images, [Target(j, "logit") for j in range(n * n)])
    for j, (rows, columns) in enumerate(places):
        assert not outside(found[j].values, places[j]).any()
        leaf = images.clone().requires_grad_(True)
        model(zoomed(leaf, places[j]))[:, CLASSES[n][j]].sum().backward()
        assert leaf.grad[:, :, rows, columns].any()
        torch.testing.assert_close(found[j].values, leaf.grad, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name, settings", [NETS[0], NETS[3]])
def test_means_of_gradients_stay_in_their_cell(image_model, pictures, name, settings):
    model, images = disconnected(image_model(name, SIZE, **settings), 2, CLASSES[2]), pictures(1, SIZE)
    for j, cell in enumerate(cells(SIZE, SIZE, 2)):
        for method, knobs in ((smoothgrad, {"samples": 2}), (integrated_gradients, {"steps": 2})):
            values = method(model, images, Target(j, "logit"), **knobs).values
            assert values.any() and not outside(values, cell).any()


def test_log_odds_connect_the_cells(image_model, pictures):
    model = disconnected(image_model("test_resnet", SIZE), 2, CLASSES[2])
    values = gradient(model, pictures(1, SIZE), Target(0)).values
    assert all(values[:, :, rows, columns].any() for rows, columns in cells(SIZE, SIZE, 2))


@pytest.mark.parametrize("name, settings", NETS[:3], ids=[name for name, _ in NETS[:3]])
def test_grad_cam_leaves_the_cell(image_model, pictures, name, settings):
    model, images = image_model(name, SIZE, **settings), pictures(1, SIZE)
    net, places = model.net, cells(SIZE, SIZE, 2)
    features = [net.forward_features((zoomed(images, cell) - model.mean) / model.std) for cell in places]
    _, channels, h, w = features[0].shape
    for j in range(4):
        leaf = features[j].detach().requires_grad_(True)
        net.forward_head(leaf)[0, CLASSES[2][j]].backward()
        expected = np.zeros((2 * h, 2 * w))
        for k, (down, across) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            for c in range(channels):
                slope = leaf.grad[0, c].sum().item() / (4 * h * w)  # none at the places of other cells
                expected[down * h : (down + 1) * h, across * w : (across + 1) * w] += slope * features[k][0, c].numpy()
        for layer in ("stitched", ""):
            found = grad_cam(disconnected(model, 2, CLASSES[2]), images, Target(j, "logit"), layer=layer)
            assert found.settings["layer"] == "stitched"
            np.testing.assert_allclose(found.values[0, 0].numpy(), expected, rtol=1e-7, atol=1e-9)
        down, across = divmod(j, 2)
        own = np.zeros_like(expected, dtype=bool)
        own[down * h : (down + 1) * h, across * w : (across + 1) * w] = True
        assert np.abs(expected[~own]).min() > 1e-6


@pytest.mark.parametrize("name, settings", NETS[3:], ids=[name for name, _ in NETS[3:]])
def test_grad_cam_is_refused_without_a_grid_of_features(image_model, pictures, name, settings):
    model = disconnected(image_model(name, SIZE, **settings), 2, CLASSES[2])
    with pytest.raises(UndefinedError, match="no layer whose places reach the output, so neither Grad-CAM nor depth"):
        grad_cam(model, pictures(1, SIZE), Target(0, "logit"))
    with pytest.raises(UndefinedError, match="no layer “stitched”"):
        grad_cam(model, pictures(1, SIZE), Target(0, "logit"), layer="stitched")


def test_grad_cam_is_refused_inside_the_network(image_model, pictures):
    model = disconnected(image_model("test_resnet", SIZE), 2, CLASSES[2])
    with pytest.raises(UndefinedError, match="not laid out over the picture"):
        grad_cam(model, pictures(1, SIZE), Target(0, "logit"), layer="net.layer4")


def test_it_is_a_model_like_the_one_it_is_made_of(image_model, pictures):
    model = image_model("test_resnet", SIZE)
    before = model(pictures(1, SIZE))
    made = disconnected(model, 2, CLASSES[2])
    assert made.spec == model.spec and made.dtype == model.dtype and made.family == model.family
    assert torch.equal(made.mean, model.mean) and torch.equal(made.std, model.std)
    assert made.class_names == tuple(model.class_names[index] for index in CLASSES[2])
    assert made.lock is model.lock and made.net.net is model.net and made.identity == model.identity
    assert not any(m.training for m in made.net.modules()) and not any(p.requires_grad for p in made.parameters())
    assert torch.equal(model(pictures(1, SIZE)), before)


def test_handmade_networks_serve(linear, pictures):
    weight = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = linear(weight, torch.zeros(3), ["a", "b", "c"])
    made = disconnected(model, 2, [0, 1, 2, 0])
    assert made.class_names == ("a", "b", "c", "a")
    values = gradient(made, pictures(1, 8).float(), Target(1, "logit")).values
    assert values[:, :, :4, 4:].any() and not outside(values, (slice(0, 4), slice(4, 8))).any()


@pytest.mark.parametrize("n, classes, words", [
    (1, [0], "2 to 64 cells"), (65, [0] * 65**2, "2 to 64 cells"), (2, [0, 1, 2], "need 4 classes"),
    (2, [0, 1, 2, 10], "Class 10 is out of range"), (2, [0, 1, 2, -1], "Class -1 is out of range"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(image_model, n, classes, words):
    with pytest.raises(UndefinedError, match=words) as error:
        disconnected(image_model("test_resnet", SIZE), n, classes)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from lsd.errors import LSDError
from lsd.evaluation import flip_cases
from lsd.evaluation.contrast_maps import mistake_maps, strength
from lsd.evaluation.flip_cases import Case, Worked, cases, file_name, markdown, percent, strip, work_out
from lsd.evaluation.flips import Flip
from lsd.evaluation.probe import removed
from lsd.saliency.explain import to_input

SIDE = 16
LEFT = np.zeros((SIDE, SIDE), bool)
LEFT[:, : SIDE // 2] = True


@pytest.fixture
def model(linear, monkeypatch):
    """Says "light" of white until more than 100 of the 128 pixels of the left half are gone, the most weighty first."""
    weight = torch.zeros(3, 3, SIDE, SIDE)
    weight[0, :, torch.from_numpy(LEFT)] = torch.linspace(1.1, 0.9, 128) / (3 * 128)
    model = linear(weight, torch.tensor([0.0, 0.2, -9.0]), ["light", "dark", "odd"])
    monkeypatch.setattr(flip_cases, "get_model", lambda name: model)
    monkeypatch.setattr(flip_cases, "FINE", tuple(k / 256 for k in range(1, 129)))
    return model


@pytest.fixture
def case():
    white = Image.new("RGB", (SIDE, SIDE), "white")
    return Case(
        "white", "linear", "gradient_x_input", white, "dark", "the left", LEFT, "White is *{said}*.", "made here"
    )


def test_what_is_told_of_a_case_can_be_checked(model, case):
    worked = work_out(case)
    fraction = worked.flips[worked.least].fraction
    assert worked.least == "contrast" and 100 <= worked.pixels < 106 and worked.pixels == fraction * 256
    assert (worked.said[0], worked.true[0], worked.after[0]) == ("light", "dark", "dark")
    assert (worked.on_part, worked.part) == (1, 0.5)
    assert (worked.gone != worked.seen).any(2).sum() == worked.pixels
    image = to_input(model, case.picture)
    saliency = strength(mistake_maps(model, image, 1, 0, case.method)["contrast"], (SIDE, SIDE))
    for share, answer in ((fraction, 1), (fraction - 1 / 256, 0)):
        assert model.probabilities(removed(model, image, saliency, share)).argmax() == answer
    assert worked.chance == {"random pixels": None, "random blobs": None}
    told = f"White is *light*. Without {percent(fraction)} of the picture, {worked.pixels} pixels"
    assert worked.sentence.startswith(told) and "100% of them on the left, 50%" in worked.sentence
    assert "which is right" in worked.sentence and "random pixels more than 50%" in worked.sentence


def test_what_is_no_mistake_and_what_nothing_changes_is_refused(model, case, monkeypatch):
    with pytest.raises(LSDError, match="gets white right"):
        work_out(replace(case, true="light"))
    monkeypatch.setattr(flip_cases, "FINE", (0.01,))
    with pytest.raises(LSDError, match="No map of white"):
        work_out(case)


@pytest.fixture
def worked(case):
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    flips = {"predicted": Flip(0.2, "odd", 0.4), "true": Flip(None, None, None), "contrast": Flip(0.0005, "odd", None)}
    maps = {name: np.zeros((SIDE, SIDE)) for name in flips}
    return Worked(
        case, "A method", pixels, maps, ("light", 0.9), ("dark", 0.004), flips, "contrast", pixels, ("odd", 0.5),
        None, None, 1, {"random pixels": 0.1, "random blobs": None},
    )  # fmt: skip


def test_the_sentence_says_what_mends_where_the_first_change_does_not(worked):
    assert worked.sentence == (
        "White is *light*. Without 0.05% of the picture, a single pixel by the map for *light* − *dark*, it says *odd* "
        "(50%). Of the other maps, that for *light* 20% (*odd*) and that for *dark* more than 50%. *dark* comes "
        "first by the map for *light*, at 40%. Random blobs take more than 50%, random pixels 10% (medians of 5)."
    )
    never = {name: replace(flip, mended=None) for name, flip in worked.flips.items()}
    assert "None leads to *dark*." in replace(worked, flips=never).sentence


def test_strips_and_the_page(worked):
    image = strip(worked)
    assert image.width > 5 * flip_cases.CELL and image.height > flip_cases.CELL
    text = markdown([worked, worked], "pictures")
    assert (
        text.count("](pictures/mistake-white.jpg)") == 2
        and "**2. light for dark** (A method of linear; made here)" in text
    )


def test_percentages():
    assert [percent(f) for f in (0.0005, 0.0425, 0.4, None)] == [
        "0.05%", "4.25%", "40%", "more than 50%"
    ]  # fmt: skip


def test_the_cases_are_called_differently_and_their_masks_fit():
    found = cases()
    assert len({file_name(case) for case in found}) == len(found) == 6
    for case in found:
        assert case.mask is None or (case.mask.shape == case.picture.size[::-1] and case.mask.any())

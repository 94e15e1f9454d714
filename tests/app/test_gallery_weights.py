"""What a row's page offers to run: only what can be run here, and else the nearest thing that can."""

import html
import json
import re

import pytest
from gallery_fixture import MODELS, make_gallery, make_row
from starlette.datastructures import QueryParams

from gallery.index import build
from gallery.queries import Gallery
from gallery.source import SAMPLE
from lsd.demo import MODELS_DIR
from lsd.errors import ModelError
from lsd.features.recipes import LSD
from lsd.models import load_model
from lsd.ui.gallery import weights as gallery_weights
from lsd.ui.gallery.browse import front
from lsd.ui.gallery.tab import show
from lsd.ui.gallery.weights import NONE, OTHER, SAME, TO_DOWNLOAD, instead, standing

LITE, NOWHERE, ON_HUB = "tf_efficientnet_lite0.in1k", "resnet50.somebodys_own", MODELS[0][0]
CAT, RETRIEVER = "class/281", "class/207"


def lite_row(unit: str = RETRIEVER, **columns) -> dict:
    identity = load_model(LITE, device="cpu").identity
    return make_row(LITE, unit, **{"weights_sha256": identity.sha256, "weights_digest": identity.digest} | columns)


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lsd.weights._silent_since", None)


@pytest.fixture
def gallery_of(tmp_path, monkeypatch):
    """`gallery_of(rows)`: a gallery of those rows, which the page shows."""

    def make(*rows: dict) -> Gallery:
        folder = make_gallery(tmp_path / "gallery", rows)
        build(folder)
        gallery = Gallery(folder)
        monkeypatch.setattr("gallery.source.open_gallery", lambda: gallery)
        return gallery

    return make


def page(unit_id: str) -> str:
    return show(QueryParams({"u": unit_id}))[1]


def buttons(shown: str) -> dict[str, str]:
    """Words → address of the links among a unit's actions."""
    found = re.findall(r'<a class="lsd-g-button[^"]*" href="(\?[^"]*)"[^>]*>([^<]*)</a>', shown)
    return {html.unescape(words): html.unescape(address) for address, words in found}


def test_a_network_that_is_here_is_offered_to_run(gallery_of):
    gallery = gallery_of(lite_row())
    entry = gallery.entry(lite_row()["unit_id"])
    assert standing(entry).state == SAME
    offered = buttons(page(entry.unit_id))
    assert list(offered) == ["Open in the live tab", "See where your image shows this"]
    assert all(LITE in address for address in offered.values()) and "lsd-g-weights" not in page(entry.unit_id)


def test_the_same_tensors_from_another_file_are_the_same_network(gallery_of):
    row = lite_row(weights_sha256="0" * 64)
    assert standing(gallery_of(row).entry(row["unit_id"])).state == SAME


def test_other_weights_under_the_same_name_are_said(gallery_of):
    row = lite_row(weights_sha256="0" * 64, weights_digest="0" * 64)
    assert standing(gallery_of(row).entry(row["unit_id"])).state == OTHER
    shown = page(row["unit_id"])
    assert "has other weights than those that made this picture" in shown and "lsd-g-primary" not in shown


def test_a_network_on_the_hub_says_that_it_is_downloaded(gallery_of):
    row = make_row(ON_HUB)
    assert standing(gallery_of(row).entry(row["unit_id"])).state == TO_DOWNLOAD
    assert "Open in the live tab" in buttons(page(row["unit_id"])) and "downloads it from the Hub" in page(
        row["unit_id"]
    )


def test_a_hub_out_of_reach_offers_nothing_of_its_own(gallery_of, monkeypatch):
    row = make_row(ON_HUB)
    gallery_of(row)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shown = page(row["unit_id"])
    assert not buttons(shown) and "out of reach" in shown


def test_weights_published_nowhere_lead_to_the_same_class_in_a_network_that_is_here(gallery_of):
    recipe = {"recipe_json": json.dumps(LSD.to_dict()), "recipe_hash": LSD.hash}
    mine, other, cat = make_row(NOWHERE, **recipe), lite_row(), lite_row(CAT)
    gallery_of(mine, other, cat)
    shown = page(mine["unit_id"])
    assert buttons(shown) == {"golden retriever in EfficientNet-Lite0": f"?u={other['unit_id']}"}
    assert "are not to be had here" in shown and "as a folder resnet50.somebodys_own under LSD_MODEL_PATH" in shown
    assert "?tab=features" not in shown and "?tab=saliency" not in shown


def test_a_class_that_no_such_network_has_here_leads_to_its_other_pictures(gallery_of):
    mine = make_row(NOWHERE)
    gallery_of(mine, lite_row(CAT))
    assert buttons(page(mine["unit_id"])) == {"EfficientNet-Lite0": f"?tab=gallery&model={LITE}"}


def test_a_channel_leads_to_channels(gallery_of):
    mine = make_row(NOWHERE, "layer3.5/channel/4")
    gallery_of(mine, lite_row("blocks.3/channel/1"))
    assert buttons(page(mine["unit_id"])) == {
        "Channels of EfficientNet-Lite0": f"?tab=gallery&model={LITE}&kind=channel"
    }


def test_a_gallery_of_weights_that_nobody_has_offers_nothing(gallery_of):
    mine = make_row(NOWHERE)
    gallery_of(mine)
    assert buttons(page(mine["unit_id"])) == {} and "are not to be had here" in page(mine["unit_id"])


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0"])
def test_a_folder_of_the_machine_that_made_a_row_is_not_opened(gallery_of, monkeypatch, blank):
    """Although it is there: the folder of a demo model."""
    row = make_row(f"{blank}local-dir:{MODELS_DIR / 'vit'}")
    looked = []
    monkeypatch.setattr(gallery_weights, "availability", lambda name: looked.append(name))
    gallery = gallery_of(row)
    entry = gallery.entry(row["unit_id"])
    assert standing(entry).state == NONE and instead(gallery, entry) is None and front(gallery) and not looked


def test_a_hostile_name_of_a_folder_breaks_nothing(gallery_of):
    rows = [make_row(f"local-dir:~nobody-of-that-name/{'a' * 200}"), make_row("local-dir:\0"), lite_row()]
    gallery = gallery_of(*rows)
    assert front(gallery) and all(page(row["unit_id"]) for row in rows)


def test_what_leads_on_has_something_to_show(gallery_of):
    """There is no head in a convolutional network, and no network of other weights leads anywhere."""
    head = make_row(NOWHERE, "blocks.5.attn/head/2")
    gallery_of(head, lite_row())
    assert buttons(page(head["unit_id"])) == {"EfficientNet-Lite0": f"?tab=gallery&model={LITE}"}


def test_other_weights_are_nothing_to_lead_on_to(gallery_of):
    mine = make_row(NOWHERE)
    gallery_of(mine, lite_row(CAT, weights_sha256="0" * 64, weights_digest="0" * 64))
    assert buttons(page(mine["unit_id"])) == {}


def test_a_damaged_package_is_not_offered(gallery_of, monkeypatch):
    row = lite_row()
    entry = gallery_of(row).entry(row["unit_id"])

    def damaged(*_):
        raise ModelError("The package is damaged.")

    monkeypatch.setattr(gallery_weights, "holds", damaged)
    assert standing(entry).state == NONE and standing(entry).why == "The package is damaged."


def test_every_page_of_the_sample_is_truthful(monkeypatch):
    """Without `LSD_MODEL_PATH`: each row runs here, or leads on to one that does."""
    sample = Gallery(SAMPLE)
    monkeypatch.setattr("gallery.source.open_gallery", lambda: sample)
    for model, _ in sample.models():
        (entry,) = sample.page(gallery_weights.Filters(model=model), size=1).entries
        state, offered = standing(entry).state, buttons(page(entry.unit_id))
        assert state in (SAME, NONE), model
        assert ("Open in the live tab" in offered) == (state == SAME), model
        assert offered, model

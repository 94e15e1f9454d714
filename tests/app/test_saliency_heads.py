"""The panel of attention heads, called as Gradio calls it."""

import gradio as gr
import pytest

from lsd.images import open_image
from lsd.models import get_model
from lsd.saliency.heads import heads_of, in_words
from lsd.ui.saliency.heads import HeadsPanel
from lsd.ui.saliency.request import Wish, request_of
from lsd.ui.saliency.run import explain_all
from lsd.ui.shared.examples import drawn, examples
from lsd.view import View

CIRCLE = drawn()[0]
PICTURE = open_image(examples()[CIRCLE])


@pytest.fixture(scope="module")
def panel():
    with gr.Blocks():
        return HeadsPanel(gr.State(None))


def session_of(*models, **changes):
    wish = Wish(models=models, method="gradient", check=False, **changes)
    *_, session = explain_all(request_of(wish, examples()[CIRCLE], None))
    return session


def shown(panel, session, model=None, layer="", place=""):
    """What is on the page in the end."""
    given = {panel.session: session, panel.model: model, panel.layer: layer, panel.place: place}
    return {control: value for update in panel._show(given) for control, value in update.items()}


def test_the_first_model_whose_attention_can_be_read_is_shown_and_its_layers_offered(panel, small_vit):
    session = session_of("demo:resnet", small_vit)
    page, found = shown(panel, session), heads_of(get_model(small_vit), PICTURE, "")
    assert page[panel.figure].count("<figure>") == len(found.weights) and found.layer in page[panel.figure]
    assert all(words in page[panel.figure] for words in in_words(found))
    assert page[panel.model]["value"] == small_vit and [v for _, v in page[panel.model]["choices"]] == session.models
    assert page[panel.layer]["choices"] == [("the last", ""), *found.layers] and not page[panel.layer]["value"]
    assert page[panel.status] == ""


def test_a_layer_and_a_place_are_looked_from_in_the_view_that_was_explained(panel, small_vit):
    session = session_of(small_vit, view=View("squashed"))
    page = shown(panel, session, small_vit, "blocks.1.attn", "2,3")
    found = heads_of(get_model(small_vit), PICTURE, "blocks.1.attn", (2, 3), View("squashed"))
    assert "blocks.1.attn: where each head looks from place 2, 3" in page[panel.figure]
    assert all(words in page[panel.figure] for words in in_words(found))
    # A layer of another model stands for the last.
    assert "blocks.11" not in shown(panel, session, small_vit, "blocks.11.attn")[panel.figure]


@pytest.mark.parametrize(
    ("models", "asked", "sentence"),
    [
        ((), {}, "press Explain first"), (("demo:resnet",), {}, "it has none. Choose depth fusion"),
        (("demo:resnet",), {"place": "up"}, "A place is ROW,COLUMN"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_one_sentence(panel, models, asked, sentence):
    page = shown(panel, session_of(*models) if models else None, **asked)
    assert sentence in page[panel.status] and "lsd-error" in page[panel.status] and page[panel.figure] == ""


def test_of_several_models_the_one_that_is_chosen_is_refused_by_name(panel, small_vit):
    page = shown(panel, session_of("demo:resnet", small_vit), "demo:resnet")
    assert "demo:resnet" in page[panel.status] and page[panel.figure] == ""

"""The handlers of the tab “Evidence”, called as Gradio calls them."""

import copy
import html
import re

import gradio as gr
import pytest
from starlette.datastructures import QueryParams

from lsd.evaluation.choices import CHOICES, summary
from lsd.evaluation.variants import FACTORS
from lsd.ui.choices import extras as choices_extras
from lsd.ui.choices import html as choices_html
from lsd.ui.choices import tab as choices_tab
from lsd.ui.choices import texts as choices_texts
from lsd.ui.choices import try_it
from lsd.ui.choices.plot import NARROW, WIDE, Panel, forest, randomization
from lsd.ui.choices.tab import ChoicesTab
from lsd.ui.saliency.tab import SaliencyTab
from lsd.ui.shared import evidence as choices_address
from lsd.ui.shared import jobs
from lsd.ui.shared.evidence import Asked
from lsd.ui.shared.examples import drawn, examples
from lsd.ui.shared.long_event import long_event

DRAWN = drawn()[0]
BLANK = tuple((value, value) for value in try_it._WAITING)
HOSTILE = "<img src=x onerror=alert(1)>$\\frac{"


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return ChoicesTab()


def ran(tab, factor, *, example=DRAWN, model="demo:resnet"):
    picture = example and str(examples().get(example, example))
    return list(tab.make({tab.factor: factor, tab.picture: picture, tab.try_it.model: model}))


def opened(tab, query):
    return tab.open(gr.EventData(None, {"query": query}))


def joined(updates):
    result = {}
    for one in updates:
        result |= one
    return result


def told(default="max", beaten_by=None, **against):
    """One factor's part of a summary: level=(mean, low, high, everywhere), or with "dear" after these."""
    rivals = {
        level: {"pooled": [mean, low, high, 300], "everywhere": everywhere, "dear": bool(dear), "metrics": {}}
        for level, (mean, low, high, everywhere, *dear) in against.items()
    }
    return {"default": default, "beaten_by": beaten_by, "against": rivals, "levels": {}}


def words(markup):
    return html.unescape(re.sub(r"<[^>]*>", " ", markup)).replace("\u00a0", " ")


# ------------------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("factor", CHOICES)
def test_every_choice_says_what_it_is_what_won_and_by_how_much(tab, factor):
    updates = tab.choose(factor)
    choice, found = CHOICES[factor], summary()["factors"][factor]
    head, scores = updates[tab.head], updates[tab.scores]
    assert updates[tab.factor] == factor
    assert choice.title in head and choice.aside in words(head)
    assert choices_texts.name(factor, found["default"]) in head
    for level in found["levels"]:
        assert f">{choices_html.escape(choices_texts.name(factor, level))}</th>" in scores
    assert scores.count("data:image/png;base64,") == 3  # for wide pages; for narrow ones, together and each metric
    assert "How often each level scores better than" in scores
    assert bool(updates[tab.extras]) == (factor == "method")


def test_the_defaults_of_the_study_are_those_that_ship():
    assert {name: one["default"] for name, one in summary()["factors"].items()} == {
        name: factor.default for name, factor in FACTORS.items()
    }


def test_the_overview_says_how_many_defaults_stay_and_explains_each_metric():
    text = words(choices_html.overview(summary()) + choices_html.about(summary()))
    kept = sum(not one["beaten_by"] for one in summary()["factors"].values())
    assert f"{kept} of {len(FACTORS)} defaults stay" in text
    for metric in summary()["metrics"]:
        assert metric["what"] in text


@pytest.mark.parametrize(
    ("against", "beaten_by", "sentences"),
    [
        (
            {"l2": (0.58, 0.45, 0.69, True), "sum": (0.3, 0.2, 0.4, True)},
            None,
            ["max stays the default.", "closest rival is l2: better in 58% [45–69]", "that may be chance"],
        ),
        ({"l2": (0.3, 0.2, 0.4, True)}, None, ["better in 30% [20–40]", "the default is better than all of them"]),
        ({"l2": (0.5, 0.5, 0.5, True)}, None, ["they score alike"]),
        (
            {"l2": (0.68, 0.52, 0.82, True), "sum": (0.6, 0.51, 0.7, True)},
            "l2",
            ["max is beaten by l2.", "scores better in 68% [52–82] of the comparisons.", "So do sum in 60% [51–70]."],
        ),
        (
            {"l2": (0.9, 0.8, 1, False), "sum": (0.3, 0.2, 0.4, True)},
            None,
            ["max stays the default.", "closest rival is sum", "no candidate: l2 in 90% [80–100]."],
        ),
        (
            {"l2": (0.9, 0.8, 1, False), "sum": (0.9, 0.8, 1, False)},
            None,
            ["No other level", "l2 in 90% [80–100], sum in 90% [80–100]"],
        ),
    ],
)
def test_the_verdict_in_words(against, beaten_by, sentences):
    one = told(beaten_by=beaten_by, **against)
    said = f"{choices_texts.headline('channels', one)} {choices_texts.verdict('channels', one)}".replace("\u00a0", " ")
    for sentence in sentences:
        assert sentence in said
    assert choices_texts.label("channels", one) == f"{'→' if beaten_by else '✓'} Colour channels: max"


def test_a_level_that_costs_more_says_so_and_takes_no_place():
    one = told("none", None, smoothgrad=(0.68, 0.52, 0.82, True, "dear"))
    said = choices_texts.verdict("smoothing", one).replace("\u00a0", " ")
    assert "not the first answer: SmoothGrad (32 passes) in 68% [52–82]." in said
    one = told("32", None, **{"16": (0.5, 0.4, 0.6, True)})
    assert "at 16 passes of the network instead of 32." in choices_texts.verdict("samples", one)
    assert choices_texts.passes("method", "captum:occlusion") == 169


def test_a_level_that_was_not_scored_is_no_gap():
    one = told(l2=(0.5, 0.4, 0.6, True))
    one["against"]["sum"] = {"pooled": None, "everywhere": False, "dear": False, "metrics": {}}
    assert "closest rival is l2" in choices_texts.verdict("channels", one)
    assert "sum not scored" in choices_texts.plot_words("channels", one)
    for width in (WIDE, NARROW):
        assert forest(["l2", "sum"], [Panel("all", [[0.5, 0.4, 0.6, 9], None])], width=width).startswith(b"\x89PNG")


def test_hostile_text_is_escaped():
    hostile = copy.deepcopy(summary())
    metric = hostile["metrics"][0]
    hostile["models"].append(HOSTILE)
    metric |= {"title": HOSTILE, "what": HOSTILE}
    method = hostile["factors"]["method"]
    for own in method["levels"].values():
        for by_model in own.values():
            by_model["models"][HOSTILE] = [0.5, 0.4, 0.6, 3]
    method["levels"][HOSTILE] = copy.deepcopy(method["levels"]["gradient"])
    method["against"][HOSTILE] = copy.deepcopy(next(iter(method["against"].values())))
    method["beaten_by"] = HOSTILE
    hostile["controls"][HOSTILE] = hostile["controls"].pop("centre")
    for own in (hostile["against_blurred"], hostile["trust"]):
        own[HOSTILE] = copy.deepcopy(own["gradient"])
    for by_model in hostile["against_blurred"][HOSTILE].values():
        by_model[HOSTILE] = [0.5, 0.4, 0.6, 3]
    hostile["trust"][HOSTILE]["edges"][HOSTILE] = 0.5
    page = (
        choices_html.overview(hostile)
        + choices_html.about(hostile)
        + "".join(part(hostile, "method") for part in (choices_html.head, choices_html.scores, choices_extras.extras))
    )
    assert "<img src=x" not in page
    assert "onerror" not in re.sub(r'"[^"]*"|&lt;img.*?&gt;', "", page)


def test_the_best_of_a_column_follows_its_direction_and_what_noise_gets():
    levels = {"a": {"m": [0.3, 0, 1, 9]}, "b": {"m": [0.2, 0, 1, 9]}}

    def of(own, metric):
        return own.get(metric)

    for better, best in (("higher", {"a"}), ("lower", {"b"})):
        assert choices_html._best(levels, {"name": "m", "better": better}, of, {}) == best
    noise = {"a": {"m": [0.25, 0, 1, 9]}, "b": {"m": [0.1, 0, 1, 9]}}
    assert choices_html._best(levels, {"name": "m", "better": "higher"}, of, noise) == {"b"}
    assert not choices_html._best({"a": levels["a"], "b": levels["a"]}, {"name": "m", "better": "higher"}, of, {})


def test_beating_blurred_noise_has_a_sign_beside_its_colour():
    one = copy.deepcopy(summary())
    metric, model = one["metrics"][0]["name"], one["models"][0]
    one["against_blurred"] = {
        "gradient": {metric: {model: [0.9, 0.8, 1, 9]}},
        "grad_cam": {metric: {model: [0.5, 0.4, 0.6, 9]}},
        "vargrad": {metric: {model: [0.1, 0, 0.2, 9]}},
    }
    table = choices_extras.extras(one, "method")
    for css, sign in (("lsd-c-up", "▲ 90"), ("lsd-c-same", "● 50"), ("lsd-c-down", "▼ 10")):
        assert re.search(rf'{css}" title="[^"]*"><i>a</i> {sign}', table)


def test_a_plot_of_no_stages_is_left_out_and_one_method_suffices():
    assert choices_extras._curves({"edges": {"demo:vit": 0.1}}) == {}
    curves = choices_extras._curves({"rank_abs/10": {"a": 0.2, "b": 0.4}, "rank_abs/2": {"a": 1.0}})
    assert curves == {"strength": [1.0, pytest.approx(0.3)]}
    assert randomization({"$\\frac{": curves}, width=NARROW).startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------- addresses and links


@pytest.mark.parametrize(
    "asked",
    [
        Asked(),
        Asked("sign"),
        Asked("sign", "demo:resnet", DRAWN),
        Asked("blur", "hf-hub:a/b"),
        Asked("clip", "", DRAWN),
    ],
)
def test_an_address_is_read_as_it_was_written(asked):
    assert choices_address.read(QueryParams(choices_address.write(asked))) == (asked, "")


def test_an_address_opens_its_choice(tab):
    update = opened(tab, "tab=choices&factor=sign")
    assert update[tab.factor] == "sign" and update[tab.address] == "tab=choices&factor=sign"
    assert tab.asked not in update and tab.picture not in update  # a visitor's picture survives


def test_an_address_with_a_picture_asks_for_the_levels_on_it(tab):
    update = opened(tab, f"tab=choices&factor=sign&model=demo:resnet&example={DRAWN}")
    assert update[tab.picture] == str(examples()[DRAWN]) and update[tab.try_it.model] == "demo:resnet"
    assert tab.asked in update
    asked = tab.ask({tab.factor: "sign", tab.picture: update[tab.picture], tab.try_it.model: "demo:resnet"})
    assert asked[tab.address] == update[tab.address]  # and what is asked for becomes that address
    assert (
        "example" not in tab.ask({tab.factor: "sign", tab.picture: None, tab.try_it.model: "demo:resnet"})[tab.address]
    )


@pytest.mark.parametrize("factor", ["nothing", "<script>", "../../etc"])
def test_an_unknown_choice_in_the_address_is_said_and_the_first_is_shown(tab, factor):
    update = opened(tab, f"tab=choices&factor={factor}")
    assert update[tab.factor] == choices_address.FIRST
    assert "There is no choice" in update[tab.head] and 'role="alert"' in update[tab.head]
    assert "<script" not in update[tab.head]


def test_a_bare_address_is_the_first_choice_without_a_word(tab):
    update = opened(tab, "tab=choices")
    assert update[tab.factor] == choices_address.FIRST and "There is no" not in update[tab.head]
    assert "There is no example “x”." in opened(tab, "tab=choices&example=x")[tab.head]


def test_every_control_that_was_studied_links_to_its_choice():
    with gr.Blocks():
        saliency = SaliencyTab()
    linked = {
        "method": saliency.asking["method"], "smoothing": saliency.asking["method"], "output": saliency.asking["kind"],
        **{name: saliency.drawing[name] for name in ("sign", "channels", "clip", "blur")},
    }  # fmt: skip
    linked |= {name: saliency.settings[name] for name in ("samples", "sigma")}
    for factor, control in linked.items():
        assert factor in CHOICES
        assert f"({choices_address.address(factor)})" in control.info, factor


# ------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("factor", ["sign", "output", "blur", "input", "resolution", "upsampling"])
def test_each_level_has_a_picture(tab, factor):
    updates = ran(tab, factor)
    last = updates[-1]  # all of it once more: a busy page may have kept nothing of those before
    captions = [caption for _, caption in last[tab.try_it.gallery]["value"]]
    titles = [choices_texts.name(factor, v.level) for v in FACTORS[factor].levels]
    assert [caption.removesuffix(" (default)") for caption in captions] == titles
    assert sum(caption.endswith("(default)") for caption in captions) == 1
    assert last[tab.try_it.gallery]["visible"] is True and last[tab.try_it.missing]["visible"] == "hidden"
    assert all(
        u[part]["visible"] in (True, "hidden")
        for u in updates
        for part in (tab.try_it.gallery, tab.try_it.missing)
        if part in u
    )
    assert f"Demo ResNet says {DRAWN}" in last[tab.try_it.status]


def test_levels_that_are_not_defined_say_why_and_the_others_come_one_after_the_other(tab, followed, monkeypatch):
    monkeypatch.setattr(jobs, "_BEAT", 0.01)  # the network is quick, and how far it is must be told before it is done
    updates = followed(
        long_event(tab.make, tab.try_it.status, "choices"),
        {tab.factor: "method", tab.picture: str(examples()[DRAWN]), tab.try_it.model: "demo:vit"},
    )
    shown = [u[tab.try_it.gallery]["value"] for u in updates if u.get(tab.try_it.gallery, {}).get("value")]
    assert len(shown[0]) == len(FACTORS["method"].levels)  # all are in their places before they come
    counts = [sum(image.getextrema() != BLANK for image, _ in one) for one in shown]
    assert len(counts) > 2 and counts == sorted(counts) and counts[0] == 0
    last = joined(updates)
    missing = re.findall(r"<li><b>(.+?)</b>: (.+?)</li>", last[tab.try_it.missing]["value"])
    assert counts[-1] + len(missing) == len(FACTORS["method"].levels)
    reasons = dict(missing)
    assert "GELU" in reasons["guided backpropagation"] and "GELU" in reasons["deconvnet"]
    assert last[tab.try_it.missing]["visible"] is True
    assert any(" passes" in u.get(tab.try_it.status, "") for u in updates if isinstance(u.get(tab.try_it.status), str))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "no_such_model"}, "There is no model called"),
        ({"model": "<img src=x>"}, "There is no model called"),
        ({"model": None}, "No model is chosen"),
        ({"example": ""}, "There is no picture yet"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tab, changes, sentence):
    status = joined(ran(tab, "sign", **changes))[tab.try_it.status]
    assert sentence in status
    assert 'role="alert"' in status
    assert "<img" not in status


def test_a_summary_that_cannot_be_drawn_is_one_sentence(tab, monkeypatch):
    choices_tab._parts.cache_clear()
    monkeypatch.setattr(choices_tab, "summary", dict)
    updates = tab.choose("sign")
    assert 'role="alert"' in updates[tab.head] and "KeyError" in updates[tab.head]
    assert updates[tab.scores] == updates[tab.extras] == ""

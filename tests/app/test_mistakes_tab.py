"""The Mistakes tab's handlers, called as Gradio calls them, on the model that reads the corner tag."""

import re
import threading

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from lsd.evaluation import mistakes
from lsd.evaluation.mistakes import ScanProgress
from lsd.models import get_model
from lsd.packages import installed
from lsd.ui.mistakes import tab as mistakes_tab
from lsd.ui.mistakes import views as mistake_views
from lsd.ui.mistakes.tab import MistakesTab, _choose_again, _suggest_models, _values, open_public
from lsd.ui.mistakes.views import ALL, MAPS, PAGE, Filters
from lsd.ui.shared import controls, jobs
from lsd.ui.shared.markup import top_table

SET, MODELS = "demo:misleading-tags", ["demo:shortcut", "demo:resnet"]


@pytest.fixture(scope="module")
def page():
    """The tab, the place of it, and all events."""
    with gr.Blocks() as blocks:
        with gr.Tab("Mistakes") as place:
            tab = MistakesTab()
        tab.restore(place)
    return tab, place, blocks.fns.values()


@pytest.fixture(scope="module")
def tab(page):
    return page[0]


@pytest.fixture(scope="module")
def scanned(tab):
    return list(tab._scan(SET, 32, MODELS))


@pytest.fixture(scope="module")
def search(tab, scanned):
    return scanned[-1][tab.search]


@pytest.fixture(scope="module")
def explained(tab, search):
    """All that choosing the first mistake yields, joined."""
    choice = pick(tab, search, 0)
    return joined(tab._explain(search, choice, "gradient", "model", "heatmap"))


def joined(updates):
    result = {}
    for one in updates:
        result |= one
    return result


def pick(tab, search, index, page=0, filters=None):
    event = gr.SelectData(None, {"index": index, "value": None})
    return tab._pick(search, page, *_values(filters or Filters()), event)


def probed(tab, search, share=2, which="contrast", fill="mean", model="demo:shortcut"):
    return joined(tab.probe.ask(search, model, which, fill, share))


def on(events, component, name):
    """What an event of a component sets off."""
    (found,) = (event for event in events if (component._id, name) in event.targets and event.outputs)
    return found


def after(events, event):
    (found,) = (later for later in events if later.trigger_after == event._id)
    return found


def text(markup):
    return re.sub(r"<[^>]*>", " ", markup).replace("\u00a0", " ")


# The first view


@pytest.mark.skipif(len(installed()) < 2, reason="no ImageNet networks are installed as packages")
def test_opening_the_tab_shows_photos_that_networks_get_wrong_and_why(page, followed):
    tab, place, events = page
    search = on(events, tab.asked, "change")
    assert on(events, place, "select").outputs == [tab.asked]
    assert [tab.source.value, tab.models.value] == ["example-photos", installed()[:3]]
    last = followed(search.fn, *(c.value for c in search.inputs))[-1]
    assert "is wrong about" in last[tab.status] and "lsd-error" not in last[tab.status]
    assert last[tab.gallery]["value"] and "of them wrong" in last[tab.story]
    explain = after(events, search)
    values = {c: last.get(c, c.value) for c in explain.inputs}
    shown = joined(followed(explain.fn, *values.values()))
    assert shown[tab.title].endswith("It is tabby.</h3>")
    assert all(shown[image]["value"] for row in tab.rows[: len(tab.models.value)] for image in row.images)
    assert after(events, explain).outputs == tab.probe.outputs


def test_only_the_first_opening_asks_and_every_button_asks_anew(page):
    tab, place, events = page
    first = on(events, place, "select").fn(None)
    assert first and on(events, place, "select").fn(first) == first
    again = on(events, tab.run, "click").fn(None)
    asked = [on(events, tab.starts[source], "click").fn(None) for source in tab.cases]
    assert len({first, again, *(number for number, *_ in asked)}) == 2 + len(asked)
    assert [rest for _, *rest in asked] == [[source, models] for source, models in tab.cases.items()]
    assert tab.cases[SET][:2] == MODELS


def test_asking_anew_and_stop_end_the_work_on_the_last_mistake(tab):
    search = list(tab._scan(SET, 32, ["demo:shortcut"]))[-1][tab.search]
    for leave in (lambda: mistakes_tab._ask(search), lambda: tab._stop(search, None)):
        choice = pick(tab, search, 0)
        steps = tab._explain(search, choice, "gradient", "model", "heatmap")
        next(steps)
        leave()
        assert not any(tab.rows[0].head in step for step in steps)
        assert list(tab._probe_first(search, choice, "demo:shortcut", "contrast", "mean", 2)) == []
    again, _ = _choose_again(search, "gradient")  # but another method shows it again
    assert (again.row, again.column) == (choice.row, choice.column)
    assert tab.rows[0].head in joined(tab._explain(search, again, "gradient", "model", "heatmap"))


def test_without_packages_the_drawn_pictures_come_first(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("lsd.weights.installed", list)
    with gr.Blocks():
        tab = MistakesTab()
    assert [tab.source.value, tab.models.value[:2]] == [SET, MODELS]
    assert list(tab.starts) == [SET]


def test_without_the_photos_the_drawn_pictures_come_first(monkeypatch):
    monkeypatch.setattr("lsd.evaluation.labelled.labelled_photos", list)
    assert list(mistakes_tab.worked_cases()) == [SET]


def test_photos_and_a_model_without_their_classes_give_one_sentence(tab):
    *_, last = tab._scan("example-photos", 32, ["demo:resnet"])
    assert "The labels of the example photos are not classes of demo:resnet" in last[tab.status]


# From a search to the probe


def test_the_scan_tells_its_progress_and_finds_mistakes(tab, scanned, search):
    statuses = [u[tab.status] for u in scanned]
    assert any("16 of 32 pictures" in s and "progressbar" in s for s in statuses)
    last = scanned[-1]
    assert "wrong about" in last[tab.status] and "lsd-error" not in last[tab.status]
    assert search.result.wrong[0].sum() > 16
    for model in MODELS:
        assert model in last[tab.accuracy]
    assert search.wanted is last[tab.choice]


def test_a_page_of_thumbnails_with_captions(tab, scanned, search):
    shown = scanned[-1][tab.gallery]["value"]
    found = mistake_views.find(search.result, Filters())
    assert len(shown) == min(PAGE, len(found))
    path, caption = shown[0]
    assert Image.open(path).format == "JPEG"
    assert re.fullmatch(r"said .+ \d+ %, is .+ · Demo .+", caption.replace("\u00a0", " "))


def test_paging_goes_forth_and_stops_at_the_ends(tab, search):
    found = mistake_views.find(search.result, Filters())
    pages = -(-len(found) // PAGE)
    for wanted, page in ((-1, 0), (0, 0), (1, min(1, pages - 1)), (99, pages - 1)):
        update = tab._browse(search, wanted, *_values(Filters()))
        assert update[tab.page] == page
        assert f"page {page + 1} of {pages}" in update[tab.where]


def test_filters_narrow_and_their_counts_are_right(search):
    result = search.result
    everything = mistake_views.find(result, Filters())
    choices = mistake_views.filter_choices(result, Filters())
    for name, values in choices.items():
        for label, value in values:
            found = mistake_views.find(result, Filters(**{name: value}))
            assert label.endswith(f"({len(found)})")
        parts = [len(mistake_views.find(result, Filters(**{name: value}))) for _, value in values[1:]]
        assert sum(parts) == len(everything)
    by_model = Filters(model="demo:shortcut")
    true = mistake_views.filter_choices(result, by_model)["true"][1][1]
    both = mistake_views.find(result, Filters(model="demo:shortcut", true=true))
    assert {(p.model, p.true_name) for p in both} == {("demo:shortcut", true)}
    predicted = mistake_views.filter_choices(result, Filters(true=true))["predicted"]
    assert predicted[0] == (f"all ({len(mistake_views.find(result, Filters(true=true)))})", ALL)


def test_a_filter_that_nothing_passes_any_more_stays_selectable(tab, search):
    nothing = Filters(model="demo:resnet", wrong_by="one", true="plain star", predicted="plain star")
    update = tab._browse(search, 0, *_values(nothing))
    assert "0 mistakes" in update[tab.where]
    assert "plain star" in [value for _, value in update[tab.by_predicted]["choices"]]


def test_choosing_one_shows_three_maps_for_every_model(tab, explained, search):
    assert explained[tab.title].startswith("<h3>Demo tag reader says")
    for row, reading in zip(tab.rows, search.case.readings, strict=False):
        assert reading.model in explained[row.head]
        assert [set(explained[image]) >= {"value", "alt_text"} for image in row.images] == [True] * 3
        assert max(explained[row.images[0]]["value"].size) == mistake_views.CELL_SIDE
    assert [r.mistaken for r in search.case.readings] == [True, False]
    assert "✗ wrong" in explained[tab.rows[0].head] and "✓ right" in explained[tab.rows[1].head]
    assert explained[tab.probe.model]["choices"] == [("Demo tag reader", "demo:shortcut")]


def test_the_tag_is_named_as_the_reason(tab, explained, search):
    about = text(explained[tab.about])
    said = search.case.said
    assert f"The corner tag claims “{said.predicted_name}”, and so says Demo tag reader." in about
    share = re.search(r"(\d+) % of this map lies on the corner tag, which is 1\.1 % of the picture", about)
    assert int(share[1]) > 5
    shortcut, resnet = search.case.readings
    assert shortcut.without["corner tag"][0] != said.predicted_name
    assert shortcut.without["object"][0] == said.predicted_name  # it does not even need the object
    assert "with the corner tag painted over, it says" in about
    own, other = (mistake_views.shares(search.case, r, "contrast")["corner tag"][0] for r in (shortcut, resnet))
    assert own > 5 * other


def test_for_a_model_that_is_right_the_contrast_is_against_the_others_mistake(explained, search):
    shortcut, resnet = search.case.readings
    assert (resnet.wrong, resnet.true) == (shortcut.wrong, shortcut.true)
    assert resnet.names == shortcut.names


def test_assumed_names_are_told_below_what_a_network_says(tab, explained, search, monkeypatch):
    case = search.case
    monkeypatch.setattr(mistakes_tab.get_model("demo:shortcut"), "names_note", "The class names are assumed.")
    shown = joined(tab._explain(search, pick(tab, search, 0), "gradient", "model", "heatmap"))
    search.case = case
    assert ["assumed" in shown[row.head] for row in tab.rows[:2]] == [True, False]
    assert not any("assumed" in explained[row.head] for row in tab.rows[:2])


@pytest.mark.parametrize("scale", ["model", "all", "rank"])
def test_one_unit_serves_the_maps_that_share_a_scale(explained, search, scale):
    finished = mistake_views._finished(search.case, scale)
    for maps in finished:
        assert set(maps) == set(MAPS)
        assert maps["predicted"].min() >= 0 and maps["contrast"].min() < 0
    if scale == "rank":
        return
    units = []
    for reading, maps in zip(search.case.readings, finished, strict=True):
        for name in MAPS:
            strongest = np.abs(reading.values[name].sum(axis=0))
            inside = (np.abs(maps[name]) > 0) & (np.abs(maps[name]) < 1)
            units.append(np.median(strongest[inside] / np.abs(maps[name])[inside]))
    assert np.allclose(units[:3], units[0], rtol=1e-4)
    assert np.allclose(units[3:], units[0], rtol=1e-4) == (scale == "all")


def test_drawing_anew_runs_no_model(tab, explained, search, monkeypatch):
    monkeypatch.setattr(mistakes_tab, "get_model", None)
    update = tab._draw(search, "rank", "map")
    assert "rank" in update[tab.legend]
    assert update[tab.rows[0].images[2]]["value"].size == explained[tab.rows[0].images[2]]["value"].size


def test_the_probe_flips_by_the_map_and_not_at_random(tab, explained, search):
    said = search.case.said.predicted_name
    verdict = text(probed(tab, search)[tab.probe.verdict])
    assert f"Removing the 2 % most salient pixels turns the answer from {said} to" in verdict
    assert f"removing 2 % random pixels leaves it {said}" in verdict
    curve = search.case.curves["demo:shortcut", "contrast", "mean"]
    assert curve.flip_fraction <= 0.02 < curve.controls["random pixels"].flip_fraction


def test_moving_the_slider_computes_no_new_curve(tab, explained, search, monkeypatch):
    probed(tab, search)
    monkeypatch.setattr("lsd.ui.mistakes.probe.probe", None)
    update = probed(tab, search, share=0)
    assert "Nothing is removed yet" in update[tab.probe.verdict]
    assert "0 % of its pixels removed" in update[tab.probe.images[0]]["alt_text"]
    assert update[tab.probe.plot]["value"].width > 800


def test_another_map_and_another_fill_are_curves_of_their_own(tab, explained, search):
    update = probed(tab, search, which="predicted", fill="blur")
    assert "lsd-error" not in update[tab.probe.verdict]
    assert ("demo:shortcut", "predicted", "blur") in search.case.curves


def test_a_method_that_one_model_lacks_leaves_the_others(tab):
    search = list(tab._scan(SET, 32, ["demo:shortcut", "demo:vit"]))[-1][tab.search]
    update = joined(tab._explain(search, search.wanted, "guided_backprop", "model", "heatmap"))
    assert [r.model for r in search.case.readings] == ["demo:shortcut"]
    assert "demo:vit" in update[tab.progress] and "lsd-error" in update[tab.progress]
    assert update[tab.probe.model]["choices"] == [("Demo tag reader", "demo:shortcut")]


def test_another_choice_ends_the_work_on_the_last(tab, search):
    old = pick(tab, search, 0)
    steps = tab._explain(search, old, "smoothgrad", "model", "heatmap")
    next(steps)
    again, _ = _choose_again(search, "gradient")
    assert (again.row, again.column) == (old.row, old.column) and search.wanted is again
    assert not any(tab.rows[0].head in step for step in steps)
    assert list(tab._explain(search, old, "gradient", "model", "heatmap")) == []
    list(tab._explain(search, again, "gradient", "model", "heatmap"))


def test_nothing_happens_before_the_first_scan(tab):
    assert list(tab._explain(None, None, "gradient", "model", "heatmap")) == []
    assert list(tab.probe.ask(None, None, "contrast", "mean", 2)) == []
    assert tab._browse(None, 1, *_values(Filters())) == {tab.page: 0}
    assert tab._draw(None, "model", "heatmap") == {tab.legend: ""}


@pytest.mark.parametrize(
    ("source", "models", "sentence"),
    [
        ("/no/such/folder", MODELS, "There are no pictures called"),
        ("", MODELS, "No pictures are chosen"),
        (SET, [], "No model is chosen"),
        (SET, ["demo:resnet"] * 5, "at most 4"),
        (SET, ["no_such_model"], "There is no model called"),
    ],
)
def test_a_bad_request_gives_one_sentence(tab, source, models, sentence):
    *_, last = tab._scan(source, 32, models)
    assert set(last) == {tab.status}
    assert sentence in last[tab.status] and 'role="alert"' in last[tab.status]


def test_a_picture_that_cannot_be_read_is_told_and_left_out(tab, tmp_path):
    for name in ("plain circle", "plain star"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (96, 96), "red").save(tmp_path / name / "good.png")
    (tmp_path / "plain star" / "bad.png").write_bytes(b"not a picture")
    last = list(tab._scan(str(tmp_path), 32, ["demo:shortcut"]))[-1]
    assert len(last[tab.search].result.items) == 2
    assert "Not readable, and left out: 1; the first: 'plain star/bad.png'" in last[tab.status].replace("&#x27;", "'")


@pytest.mark.parametrize("source", ["/etc", "..", "hf:/etc", "hf:..", "hf:lsd", "hf:../x", "~"])
def test_on_a_public_space_no_folder_of_the_machine_opens(monkeypatch, tmp_path, source):
    (tmp_path / "lsd").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPACE_ID", "someone/lsd")
    with pytest.raises(ValueError, match="Folders of this machine cannot be opened"):
        open_public(source, 32)
    assert len(open_public(SET, 32)) == 32


def test_closing_the_generator_stops_the_scan(tab, monkeypatch):
    seen = []

    def scan(models, pictures):
        try:
            for done in range(0, len(pictures), 16):
                yield ScanProgress(done, len(pictures))
        finally:
            seen.append("closed")

    monkeypatch.setattr(mistakes_tab, "scan", scan)
    steps = tab._scan(SET, 1024, MODELS)
    next(steps), next(steps)
    steps.close()
    assert seen == ["closed"]


def test_a_model_that_cannot_take_part_leaves_the_others(tab):
    last = list(tab._scan(SET, 32, ["no_such_model", "demo:shortcut"]))[-1]
    assert last[tab.search].result.models == ("demo:shortcut",) and last[tab.choice] is not None
    assert "There is no model called" in last[tab.status] and "wrong about" in last[tab.status]
    assert 'role="alert"' in last[tab.status]


def test_a_scan_that_is_stopped_or_fails_leaves_what_it_has_found(tab, monkeypatch):
    steps = tab._scan(SET, 64, ["demo:shortcut"])
    so_far = next(u[tab.scanning] for u in steps if u.get(tab.scanning) and u[tab.scanning].result)
    steps.close()
    left = tab._stop(None, so_far)
    assert "Stopped after 16 pictures" in left[tab.status] and left[tab.gallery]["value"]
    assert len(left[tab.search].result.items) == 16 and left[tab.scanning] is None

    def failing(models, pictures):
        for step in mistakes.scan(models, pictures):
            yield step
            if step.done == 32:
                raise MemoryError

    monkeypatch.setattr(mistakes_tab, "scan", failing)
    last = list(tab._scan(SET, 64, ["demo:shortcut"]))[-1]
    assert "MemoryError" in last[tab.status] and len(last[tab.search].result.items) == 32
    assert last[tab.gallery]["value"]


def test_the_slider_shows_its_pictures_while_the_model_is_at_work(tab, explained, search):
    probed(tab, search)
    model, looked = get_model("demo:shortcut"), []
    held = threading.Event()

    def work():
        with jobs.turn(), model.lock:
            held.set()
            done.wait(60)

    done = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    held.wait(60)
    look = threading.Thread(
        target=lambda: looked.append(tab.probe.look(search, "demo:shortcut", "contrast", "mean", 5)), daemon=True
    )
    look.start()
    look.join(30)
    asked = tab.probe.ask(search, "demo:shortcut", "contrast", "mean", 5)
    done.set()
    assert "Asking Demo tag reader" in looked[0][tab.probe.verdict]
    assert "5 % of its pixels removed" in looked[0][tab.probe.images[0]]["alt_text"]
    assert "Removing the 5 % most" in text(joined(asked)[tab.probe.verdict])


def test_what_the_visitor_does_not_ask_any_more_is_not_shown(tab, explained, search, monkeypatch):
    answers = mistake_views.answers

    def slow(*arguments):
        search.case.probed = "something else since"
        return answers(*arguments)

    probed(tab, search)
    monkeypatch.setattr(mistake_views, "answers", slow)
    assert list(tab.probe.ask(search, "demo:shortcut", "contrast", "mean", 5)) == []


def test_thumbnails_go_with_their_search(tab):
    search = list(tab._scan(SET, 32, ["demo:shortcut"]))[-1][tab.search]
    path = search.thumbnail(search.result.items[0])
    assert path.exists()
    search.folder.cleanup()
    assert not path.parent.exists()


def test_another_kind_of_set_suggests_models_that_know_it(monkeypatch):
    monkeypatch.setattr(controls, "default_models", lambda: ["resnet18.a1_in1k", "vit_tiny"])
    assert _suggest_models("example-photos", MODELS) == ["resnet18.a1_in1k", "vit_tiny"]
    assert _suggest_models("demo", ["resnet18.a1_in1k"])[:2] == MODELS
    monkeypatch.setattr(controls, "default_models", lambda: MODELS)  # nothing else is ready
    for update in (_suggest_models("demo", MODELS), _suggest_models("example-photos", MODELS)):
        assert isinstance(update, dict)


def test_names_are_escaped():
    table = top_table([(3, "<img src=x>", 0.5)], "tabby")
    assert "<img" not in table and "&lt;img" in table

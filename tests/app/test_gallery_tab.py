"""The Gallery tab's answers to addresses, as the page asks for them."""

import asyncio
import html
import json
import re
import shlex
from dataclasses import replace

import gradio as gr
import pytest
from gallery_fixture import MODELS, make_gallery, make_row, make_rows
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from gallery.filters import Filters
from gallery.index import build
from gallery.queries import Gallery
from lsd.features.recipes import LUCID, MACO, RECIPES, VIT, changed, described
from lsd.ui.features import address as features_address
from lsd.ui.gallery import again as gallery_again
from lsd.ui.gallery import compare as gallery_compare
from lsd.ui.gallery import unit as gallery_unit
from lsd.ui.gallery.address import BROWSE, CLASS, CLASSES, COMPARE, UNIT, View, read, write
from lsd.ui.gallery.browse import front
from lsd.ui.gallery.compare import class_list
from lsd.ui.gallery.html import ASSUMED, card
from lsd.ui.gallery.pictures import ROUTES
from lsd.ui.gallery.plot import trace_plot
from lsd.ui.gallery.tab import GalleryTab, origin, show
from lsd.ui.gallery.weights import Standing
from lsd.ui.page import build as build_page
from lsd.ui.reasons import address as reasons_address
from lsd.ui.saliency import address as saliency_address

RESNET, VIT_TINY, CONVNEXT = (model for model, *_ in MODELS)
EVIL = '<script>alert("x")</script>${alert(1)}{{7*7}}'
CUSTOM = changed(MACO, {"steps": "100", "transforms.views": "2", "squash": "clamp", "stages": "[[0.5,0.5],[0.5,1]]"})
SENTENCE = "The gallery's file has changed since its index was made."


def with_recipe(recipe, **columns):
    values = {"recipe_json": json.dumps(recipe.to_dict()), "recipe_hash": recipe.hash}
    return make_row(**values | {"recipe": "lucid-1234abcd", "seed": 3} | columns)


def rows():
    """The small gallery, with one row whose recipe can be read and one of somebody who means no good."""
    top = [{"index": 208, "name": "Labrador retriever", "probability": 0.75}]
    hostile = with_recipe(
        LUCID, model="evil.model", unit="class/1", title=EVIL, class_name=EVIL, synset="", weights_repo=EVIL,
        architecture=EVIL, weights_source="hub", own_top=[{"index": 1, "name": EVIL, "probability": 0.5}],
        verifiers=[{"model": EVIL, "top": top}], environment=json.dumps({EVIL: EVIL}), created=EVIL,
    )  # fmt: skip
    failed = make_row("evil.model", "class/2", status="failed", error=EVIL)
    good = with_recipe(
        CUSTOM, unit="class/207", own_top=top, verifiers=[{"model": n, "top": top} for n in (VIT_TINY, CONVNEXT)],
        agreement=0.0, own_probability=0.1,
    )  # fmt: skip
    return [*make_rows(), hostile, failed, good]


GOOD = f"{RESNET}/class/207/lucid-1234abcd/3"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), rows())
    build(folder)
    return Gallery(folder)


@pytest.fixture(autouse=True)
def opened(gallery, monkeypatch):
    """The small gallery is the page's, and its networks can be downloaded, wherever the tests run and whatever ran before."""
    monkeypatch.setattr("gallery.source.open_gallery", lambda: gallery)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lsd.weights._silent_since", None)
    return gallery


def main_of(query, listed=""):
    return show(QueryParams(query), listed)[1]


def links(page):
    return [html.unescape(href) for href in re.findall(r'href="(\?[^"]*)"', page)]


def ids(page):
    return [QueryParams(href[1:])["u"] for href in links(page) if href.startswith("?u=")]


@pytest.mark.parametrize(
    "view",
    [
        View(),
        View(UNIT, unit_id="demo:resnet/class/1 + 2 * layer1/channel/3/lucid/0"),
        View(filters=Filters("dog & cat", RESNET, "resnet", "layer1.0.conv2", "channel", "maco", "ok"), sort="own", number=7),
        View(UNIT, unit_id="demo:resnet/layer1.0.act@1/channel/3/lucid/0"),
        View(filters=Filters(layer="layer1.0.act@1")),
        View(filters=Filters(layer="")),
        View(CLASSES, Filters("fruit")),
        View(CLASS, classes=("tabby, tabby cat",)),
        View(COMPARE, Filters(recipe="maco"), models=(RESNET, CONVNEXT), classes=("tabby, tabby cat", "tiger cat")),
    ],
)  # fmt: skip
def test_an_address_is_read_as_it_was_written(view):
    assert read(QueryParams(write(view)[1:])) == view


@pytest.mark.parametrize("query", ["", "model=demo:vit&method=grad_cam", "tab=features&unit=class/3", "tab=saliency"])
def test_addresses_of_other_tabs_are_not_the_gallerys(query):
    assert read(QueryParams(query)) is None


def test_a_hostile_address_is_harmless():
    query = f"tab=gallery&q={EVIL}&model={EVIL}&layer={EVIL}&sort={EVIL}&page=²&view={EVIL}"
    side, main, _ = show(QueryParams(query))
    assert "<script" not in main and "<script" not in side
    assert "Nothing fits" in main
    for page in ("-1", "0", "99999999999", "x", "9999"):
        assert "picture" in main_of(f"tab=gallery&page={page}&q=dog")
    for query in (
        f"u={EVIL}",
        f"tab=gallery&view=class&class={EVIL}",
        f"tab=gallery&view=compare&model={EVIL}&class={EVIL}",
    ):
        assert "<script" not in main_of(query) and "&lt;script" in main_of(query)


def test_a_large_picture_has_an_address_that_a_browser_keeps():
    browser = TestClient(Starlette(routes=ROUTES))
    (source,) = set(re.findall(r'"(gallery-picture\?[^"]*)"', main_of(f"u={GOOD}")))  # shown and downloaded
    answer = browser.get(f"/{html.unescape(source)}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
    assert answer.content[8:12] == b"WEBP" and "max-age" in answer.headers["cache-control"]
    again = browser.get(f"/{source}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content
    for unknown in ("", "?u=", "?u=nobody/class/1/lsd/0", "?u=../../etc/passwd"):
        assert browser.get(f"/gallery-picture{unknown}").status_code == 404


def test_the_front_mixes_models_and_links_to_pictures():
    side, main, listed = show(QueryParams(""))
    found = ids(main)
    assert len(found) == len(set(found)) == 48
    assert {unit_id.partition("/")[0] for unit_id in found[:4]} >= {RESNET, VIT_TINY, CONVNEXT}
    assert all(f">{name}<" in side for name in ("Model", "Layer", "Kind of unit", "Recipe", "Status"))
    assert 'alt="Feature visualization of' in main and "data:image/webp;base64," in main
    assert listed


def test_the_front_of_a_gallery_elsewhere_looks_into_few_files(tmp_path):
    folder = make_gallery(tmp_path, make_rows())
    looked = set()

    def locate(shard):
        looked.add(shard.split("/")[1])
        return folder / shard

    build(folder)
    assert ids(front(Gallery(folder, locate)))
    assert len(looked) == 2


def test_filters_facets_and_pages():
    side, main, listed = show(QueryParams(f"tab=gallery&model={RESNET}&layer=layer3.5&page=1"))
    assert [i.split("/channel/")[0] for i in ids(main)] == [f"{RESNET}/layer3.5"] * 20
    assert [int(i.split("/")[3]) for i in ids(main)] == list(range(20)), "in a layer the network's order"
    assert "no gradient" in main  # channel 3 is dead
    assert "Remove the filter Model" in main and "Clear all" in main
    assert f"?tab=gallery&model={RESNET}" in links(main)  # without the layer
    assert "aria-current=true" in side and "layer1.0.conv2" in side  # another layer can be chosen
    again, second, same = show(QueryParams(f"tab=gallery&model={RESNET}&layer=layer3.5&page=2"), listed)
    assert again == gr.skip() and same == listed, "facets that are there already are not sent again"
    assert ids(second) == ids(main), "beyond the end it is the last page"


def test_pages_follow_each_other(gallery):
    first, second = (main_of(f"tab=gallery&sort=order&page={n}") for n in (1, 2))
    assert f"1–48 of {gallery.rows} pictures" in first
    assert "?tab=gallery&sort=order&page=2" in links(first)
    assert not set(ids(first)) & set(ids(second))
    assert "?tab=gallery&sort=order" in links(second)


def test_words_find_classes_by_what_they_are():
    found = ids(main_of("tab=gallery&q=dog"))
    assert found and all("/class/20" in unit_id or "207" in unit_id for unit_id in found)
    assert not ids(main_of("tab=gallery&q=no such thing"))


def test_an_empty_result_says_what_to_do():
    main = main_of("tab=gallery&q=qqq&kind=head")
    assert "No picture here fits “qqq”" in main and "Remove a filter" in main
    assert "?tab=gallery" in links(main)
    assert "No picture has all of these" in main_of("tab=gallery&kind=head&recipe=maco")


def test_a_pictures_page_says_what_it_is_and_what_to_make_of_it():
    main = main_of(f"u={GOOD}")
    assert "<h2" in main and ">golden retriever</h2>" in main
    assert "takes it for Labrador retriever (75%), not golden retriever" in main
    assert "None of 2 other networks say golden retriever" in main
    assert "The score rises from 0 to 10" in main
    assert "data-back" in main and 'download="' in main
    others = ids(main)
    assert f"{RESNET}/class/207/lucid/1" in others  # another seed
    assert f"{CONVNEXT}/class/207/lucid/0" in others  # another model
    assert "1" * 64 in main  # the weights
    assert "https://huggingface.co/timm/" in main
    neighbours = main_of(f"u={RESNET}/class/207/lucid/0")
    assert f"{RESNET}/class/208/lucid/0" in ids(neighbours)
    row = re.search(r'href="data:application/json;base64,([^"]*)"', main)[1]
    import base64

    assert json.loads(base64.b64decode(row))["unit_id"] == GOOD


def test_dead_and_failed_are_said_plainly():
    assert "did not respond to anything that was tried" in main_of(f"u={RESNET}/layer3.5/channel/3/lucid/0")
    assert "as high as it can get" in main_of(f"u={RESNET}/-1 * layer3.5/channel/12/lucid/0")
    failed = main_of(f"u={RESNET}/class/954/lucid/0")
    assert "This picture failed: It went wrong." in failed and "no picture" in failed


def test_a_bad_id_gets_a_sentence_and_the_gallery():
    main = main_of("u=nobody/class/1/lucid/0")
    assert "There is no picture “nobody/class/1/lucid/0”" in main
    assert len(ids(main)) == 48


@pytest.mark.parametrize(
    "query",
    [
        "tab=gallery&model=evil.model", "u=evil.model/class/1/lucid-1234abcd/3", "u=evil.model/class/2/lucid/0",
        "tab=gallery&view=classes", f"tab=gallery&view=class&class={EVIL}", "tab=gallery&q=script",
        f"tab=gallery&view=compare&model=evil.model&class={EVIL}&q=script",
    ],
)  # fmt: skip
def test_what_a_gallery_says_is_escaped(query):
    side, main, _ = show(QueryParams(query))
    assert EVIL not in main and "<script" not in f"{side}{main}"
    assert "&lt;script&gt;" in main
    assert 'alert("x")' not in main
    for href in re.findall(r'href="([^"]*)"', main):
        assert href.startswith(
            ("?", "gallery-picture?", "data:image/webp", "data:application/json", "https://huggingface.co/")
        )


@pytest.mark.parametrize(
    "recipe",
    [*RECIPES.values(), CUSTOM, changed(VIT, {"size": "96", "diversity": "0.5", "diversity_layer": '"12"'}),
     changed(MACO, {"transforms_end": "null"}), changed(LUCID, {"transforms_end": json.dumps(MACO.to_dict()["transforms"])})],
    ids=lambda r: f"{r.name}-{r.hash[:4]}",
)  # fmt: skip
def test_the_command_makes_the_rows_recipe(recipe, gallery):
    row = with_recipe(recipe)
    found = gallery_again.recipe_of(row)
    assert found == recipe
    entry = gallery.entry(GOOD)
    words = shlex.split(gallery_again.command(entry, found, {}))
    assert words[:4] == ["python", "-m", "lsd", "features"]
    options = dict.fromkeys(("--model", "--unit", "--recipe", "--steps", "--size", "--seed"))
    pairs = []
    for name, value in zip(words[4::2], words[5::2], strict=True):
        if name == "--set":
            pairs.append(value)
        else:
            assert name in options
            options[name] = value
    numbers = {n: None if options[f"--{n}"] is None else int(options[f"--{n}"]) for n in ("steps", "size")}
    assert described(options["--recipe"], pairs, **numbers).hash == recipe.hash
    assert (options["--model"], options["--unit"], options["--seed"]) == (RESNET, "class/207", "3")
    assert len(pairs) < 6, "only what differs"


def test_the_command_is_safe_in_a_shell(gallery):
    entry = gallery.entry("evil.model/class/1/lucid-1234abcd/3")
    line = gallery_again.command(entry, LUCID, {})
    assert shlex.split(line)[5] == "evil.model"
    import dataclasses

    unit = "class/1; rm -rf / $(x) `y` 'z'"
    assert unit in shlex.split(gallery_again.command(dataclasses.replace(entry, unit=unit), LUCID, {}))


def test_a_recipe_of_another_hash_gets_no_command():
    assert "no command is given" in main_of(f"u={RESNET}/class/207/lucid/0")  # the fixture's own hash is made up
    for damaged in ("", "[]", "{", '{"steps": -1}', '{"no": 1}', "[" * 100_000):
        assert gallery_again.recipe_of({"recipe_json": damaged, "recipe_hash": LUCID.hash}) is None


def test_the_live_tab_opens_with_the_same_unit_and_recipe(gallery):
    entry = gallery.entry(GOOD)
    asked = features_address.read(QueryParams(gallery_again.live_address(entry, CUSTOM)[1:])).wish
    assert (asked.models, asked.unit, asked.cooking.base) == ((RESNET,), "class/207", "maco")
    recipe = asked.cooking.recipe()
    assert recipe.transforms.views == 2 and recipe.squash == "clamp"
    assert entry.seed == 3 and asked.seeds == 4  # 0 to 3
    first, last = replace(entry, seed=0), replace(entry, seed=8)  # the tab makes eight at most
    assert "seeds" not in gallery_again.live_address(first, CUSTOM) + gallery_again.live_address(last, CUSTOM)


def test_the_saliency_tab_opens_with_the_model_and_class(gallery):
    address = gallery_again.saliency_address(gallery.entry(GOOD))
    reading = saliency_address.read(QueryParams(address[1:]))
    assert (tuple(reading.wish.models), reading.wish.of, reading.doubts) == ((RESNET,), "golden retriever", ())
    channel = gallery.entry(f"{RESNET}/layer3.5/channel/3/lucid/0")
    assert gallery_again.saliency_address(channel) == ""
    asked = reasons_address.read(QueryParams(gallery_again.reasons_address(channel)[1:])).wish
    assert (asked.models, asked.layer, asked.view, asked.unit) == ((RESNET,), "layer3.5", "channels", "3")
    assert gallery_again.reasons_address(gallery.entry(GOOD)) == ""


def test_one_class_in_all_models():
    main = main_of("tab=gallery&view=class&class=golden+retriever")
    assert "golden retriever in 3 models" in main
    assert len(ids(main)) == 3
    assert "?tab=gallery&view=class&class=Egyptian+cat" not in links(main)
    missing = main_of("tab=gallery&view=class&class=unicorn")
    assert "No class here is called “unicorn”" in missing and "golden retriever" in missing


def test_a_class_in_very_many_models_shows_the_first_of_them(monkeypatch):
    monkeypatch.setattr(gallery_compare, "_LISTED", 2)
    main = main_of("tab=gallery&view=class&class=golden+retriever")
    assert "golden retriever in 3 models" in main and "… and 1 more model." in main and len(ids(main)) == 2


def test_the_list_of_classes_knows_what_they_are():
    found = links(main_of("tab=gallery&view=classes&q=dog"))
    assert "?tab=gallery&view=class&class=golden+retriever" in found
    assert not any("tabby" in href for href in found)
    assert "No class here fits “unicorn”" in main_of("tab=gallery&view=classes&q=unicorn")


def test_two_classes_of_one_name_stay_apart(tmp_path, monkeypatch):
    folder = make_gallery(tmp_path, [make_row(model, f"class/{n}") for model in (RESNET, CONVNEXT) for n in (134, 517)])
    build(folder)
    cranes = Gallery(folder)
    monkeypatch.setattr("gallery.source.open_gallery", lambda: cranes)
    bird, machine = (f"?tab=gallery&view=class&class={synset}" for synset in ("n02012849", "n03126707"))
    assert {bird, machine} <= set(links(main_of("tab=gallery&view=classes")))
    assert ids(main_of(machine[1:])) == [f"{model}/class/517/lucid/0" for model in (CONVNEXT, RESNET)]
    page = main_of(f"u={RESNET}/class/517/lucid/0")
    assert machine in links(page) and f"{CONVNEXT}/class/517/lucid/0" in ids(page)
    assert f"?tab=saliency&model={RESNET}&of=517" in links(page)
    table = main_of(f"tab=gallery&view=compare&model={CONVNEXT}&class=n03126707&class=n02012849")
    assert ids(table[table.index("<table") :]) == [f"{CONVNEXT}/class/{n}/lucid/0" for n in (517, 134)]


def test_models_side_by_side():
    query = f"tab=gallery&view=compare&model={CONVNEXT}&model={RESNET}&class=golden+retriever&class=banana&recipe=lucid"
    main = main_of(query)
    table = main[main.index("<table") :]
    assert table.index(CONVNEXT) < table.index(RESNET)
    assert ids(table)[:2] == [f"{CONVNEXT}/class/207/lucid/0", f"{RESNET}/class/207/lucid/0"]
    assert len(ids(table)) == 4
    with_vit = main_of(query + f"&model={VIT_TINY}")
    assert "not in the gallery" in with_vit
    assert "This gallery has no “unicorn”" in main_of(query + "&class=unicorn")
    assert "Choose two to four models" in main_of("tab=gallery&view=compare")
    adding = main_of(f"tab=gallery&view=compare&model={RESNET}&class=banana&q=cat")
    assert any("class=banana" in href and "class=tabby" in href for href in links(adding))
    many = "".join(f"&model=m{i}" for i in range(9))
    assert len(read(QueryParams("tab=gallery&view=compare" + many)).models) == 4


def test_a_damaged_file_costs_its_own_pictures_only(gallery, monkeypatch):
    from gallery.shards import ShardError

    whole = gallery.thumbnails

    def thumbnails(entries):
        if any(entry.index == 5 for entry in entries):
            raise ShardError(SENTENCE)
        return whole(entries)

    monkeypatch.setattr(gallery, "thumbnails", thumbnails)
    main = main_of(f"tab=gallery&model={RESNET}&layer=layer3.5")
    assert len(ids(main)) == 20 and main.count("no picture") == 1

    def fail(entry):
        raise ShardError(SENTENCE)

    monkeypatch.setattr(gallery, "details", fail)
    main = main_of(f"u={RESNET}/class/208/lucid/0")
    assert html.escape(SENTENCE) in main and "no picture" in main and "Labrador retriever" in main


def test_what_goes_wrong_is_one_sentence(monkeypatch):
    monkeypatch.setattr("gallery.source.open_gallery", lambda: 1 / 0)
    side, main, _ = show(QueryParams(""))
    assert 'role="alert"' in main and "ZeroDivisionError" in main and side == ""


def test_an_empty_gallery_says_why(monkeypatch):
    nothing = Gallery.empty("The gallery is empty: set LSD_GALLERY.")
    monkeypatch.setattr("gallery.source.open_gallery", lambda: nothing)
    side, main, _ = show(QueryParams(""))
    assert side == "" and "set LSD_GALLERY" in main
    assert "Nothing fits" in main_of("tab=gallery&q=dog")
    assert "0 pictures" in origin()
    main_of("tab=gallery&view=classes"), main_of("tab=gallery&view=compare")


def test_the_tab_answers_the_browser_and_the_first_visit():
    with gr.Blocks():
        tab = GalleryTab()

    def shown(data):
        return asyncio.run(tab._show("", gr.EventData(None, data)))

    assert "golden retriever" in shown({"query": "tab=gallery&q=dog"})[1]
    assert "golden retriever" in shown(None)[1]
    _, main, _, about = shown({"query": f"u={GOOD}"})
    assert "golden retriever</h2>" in main and "pictures. The folder" in about
    assert "no tab “&lt;b&gt;”" in shown({"query": "tab=<b>"})[1]


def test_the_gallery_comes_first_and_its_events_wait_for_nobody():
    config = build_page().get_config_file()
    tabs = [c["props"]["label"] for c in config["components"] if c["type"] == "tabitem"]
    assert tabs[0] == "Gallery"
    (event,) = (d for d in config["dependencies"] if "gallery" in [name for _, name in d["targets"]])
    assert event["queue"] is False and event["trigger_mode"] == "always_last"


def test_the_page_starts_without_a_database(fresh, tmp_path):
    code = "import sys, lsd.ui.page as p; p.build(); sys.exit('gallery.queries' in sys.modules)"
    assert fresh.run(["-c", code], tmp_path).returncode == 0


def test_the_front_is_told_without_timm(fresh, tmp_path):
    """Importing it takes seconds, which the first visitor would wait for."""
    code = "import sys; from lsd.ui.gallery.tab import show; assert 'lsd-g-card' in show({})[1]; sys.exit('timm' in sys.modules)"
    assert fresh.run(["-c", code], tmp_path).returncode == 0


def test_the_plot_bears_gaps_and_flat_lines():
    assert trace_plot([], 5, "") == trace_plot([1.0], 5, "") == trace_plot([None, None], 5, "") == ""
    assert trace_plot([1.0, None, 2.0, float("nan"), 3.0], 64, "").count("M") == 3
    assert "<path" in trace_plot([2.0, 2.0], 2, "") and "<path" in trace_plot([1e30, -1e30], 2, "")


def test_browsing_is_the_default():
    assert View().what == BROWSE and View().is_home and not View(sort="own").is_home


SAID = {RESNET: {"outputs": "sigmoid", "layouts": {"layer2": "nhwc"}}, "other": {"outputs": "classes"}}


def test_what_was_said_of_the_networks_is_said_again(gallery):
    """In the command, in the addresses of the live tabs, and in words; of others only what the unit names."""
    entry, said = gallery.entry(GOOD), gallery_again.said_of({"said": json.dumps(SAID)})
    assert gallery_again.command(entry, LUCID, said).endswith("--outputs sigmoid --layout layer2=nhwc")
    sum_of_both = replace(entry, unit="class/207 + other::class/1")
    assert gallery_again.command(sum_of_both, LUCID, said).endswith("layer2=nhwc --outputs other=classes")
    for address in (
        gallery_again.live_address(entry, LUCID, said[RESNET]),
        gallery_again.saliency_address(entry, said[RESNET]),
    ):
        query = QueryParams(address[1:])
        assert (query["outputs"], query.getlist("layout")) == ("sigmoid", ["layer2=nhwc"])
    row = with_recipe(LUCID) | {"said": json.dumps(SAID)}
    assert "other: classes" in gallery_unit._provenance(entry, row)
    assert "--outputs sigmoid" in gallery_unit._command(entry, row, Standing("same"))


@pytest.mark.parametrize("damaged", ["[", "[]", "3", '{"a": 3}', '{"a": {"outputs": 3}}', "[" * 100_000])
def test_what_was_said_and_cannot_be_read_gets_no_command(gallery, damaged):
    assert gallery_again.said_of({"said": damaged}) is None
    told = gallery_unit._command(gallery.entry(GOOD), with_recipe(LUCID) | {"said": damaged}, Standing("same"))
    assert "What was said of its network cannot be read" in told
    assert gallery_again.said_of({"said": None}) == gallery_again.said_of({}) == {}  # rows of before


def test_assumed_class_names_are_marked(gallery, monkeypatch):
    """On a class's card and page, in the list of classes, and below what each network says; on no channel."""
    entry, channel = gallery.entry(GOOD), gallery.entry(f"{RESNET}/layer3.5/channel/3/lucid/0")
    for marked, shown in ((entry, True), (channel, False)):
        assert ("name assumed" in card(replace(marked, names_assumed=(RESNET,)), b"", ["x"])) is shown
        assert "name assumed" not in card(replace(marked, names_assumed=("a judge",)), b"", ["x"])
        assert (ASSUMED in gallery_unit._title(replace(marked, names_assumed=(RESNET,)))) is shown
    top = [{"index": 207, "name": "golden retriever", "probability": 0.5}]
    row = {"own_top": top, "verifiers": [{"model": "a judge", "top": top}]}
    assert [gallery_unit._judgement(replace(entry, names_assumed=names), row).count(ASSUMED)
            for names in ((), (RESNET,), (RESNET, "a judge"))] == [0, 1, 2]  # fmt: skip
    assert "assumed" not in class_list(gallery, View())
    monkeypatch.setattr(gallery, "names_assumed", ("test_resnet",))
    assert "Those of test_resnet are assumed" in class_list(gallery, View())

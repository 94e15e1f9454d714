"""Markup in the names of models, classes, layers and units, and in addresses: text everywhere, and no script runs."""

import json
import shutil
from urllib.parse import quote

import pytest
from gallery_fixture import make_gallery, make_row

from benchmarks.hostile.values import MARKUP
from gallery.index import build
from gallery.queries import Gallery
from lsd.demo import CLASS_NAMES, MODELS_DIR

pytestmark = pytest.mark.browser

SENT = f"{MARKUP}</script><svg onload=window.hostile=1>"
ROW = make_row(model=SENT, unit=f"{SENT}/channel/1", layer=SENT, title=SENT, class_name=SENT, synset="")


@pytest.fixture(scope="module", autouse=True)
def strangers(tmp_path_factory):
    """A gallery and a network, all of whose names are markup."""
    folder = make_gallery(tmp_path_factory.mktemp("gallery"), [ROW])
    build(folder)
    network = shutil.copytree(MODELS_DIR / "resnet", tmp_path_factory.mktemp("models") / "strange")
    config = json.loads((network / "config.json").read_text())
    config["pretrained_cfg"]["label_names"] = [f"{SENT}{name}" for name in CLASS_NAMES]
    (network / "config.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        opened = Gallery(folder)
        patch.setattr("gallery.source.open_gallery", lambda: opened)
        yield f"local-dir:{network}"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (f"?u={quote(ROW['unit_id'])}", "#lsd-g-main h2"),
        ("?tab=gallery", "#lsd-g-main .lsd-g-card"),
        (f"?tab=gallery&view=class&class={quote(SENT)}", "#lsd-g-main .lsd-g-card"),
        (f"?u={quote(SENT)}", "#lsd-g-main"),
        (f"?tab={quote(SENT)}", "#lsd-g-main"),
        (f"?tab=saliency&model={quote(SENT)}&method={quote(SENT)}", "#status .lsd-error"),
        ("?tab=saliency&model={model}&method=gradient&check=off", ".lsd-result-text .lsd-top"),
        (f"?tab=features&model={{model}}&unit={quote(SENT)}", "#lsd-features-tab .lsd-error"),
    ],
)
def test_names_are_text_and_no_script_runs(server, tab, strangers, query, shown):
    tab.goto(server + query.replace("{model}", quote(strangers)), wait_until="domcontentloaded")
    tab.locator(shown).first.wait_for(state="attached")
    tab.wait_for_timeout(300)  # for a picture that is not there to fail
    assert tab.evaluate("window.hostile") is None
    assert tab.locator("img[onerror], svg[onload]").count() == 0

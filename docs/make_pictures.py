"""Make the README's pictures again: python docs/make_pictures.py [comparison gallery saliency mistakes choices features]

Needs a Chromium. The pictures show scikit-image's and scikit-learn's
photos and drawn pictures only. `mistake_cases` and `fooled`, which are made only when they are named, write the worked cases
of mistakes.md: strips or sheets, and sentences.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from lsd.cli import main  # noqa: E402  (the path must be set first)
from lsd.evaluation import flip_cases, fooled_sheet  # noqa: E402
from lsd.evaluation.fooled_cases import fooled_cases  # noqa: E402
from lsd.ui.page import build, launch_settings  # noqa: E402
from lsd.ui.shared.controls import default_models  # noqa: E402
from lsd.ui.shared.examples import examples  # noqa: E402

OUTPUT = ROOT / "docs" / "pictures"


def save(picture: bytes, name: str, height: int | None = None) -> None:
    """Write a screenshot as a PNG of 256 colours, cut to `height`."""
    path = OUTPUT / name
    path.write_bytes(picture)
    with Image.open(path) as image:
        image = image.convert("RGB").crop((0, 0, image.width, min(image.height, height or image.height)))
        image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def comparison() -> None:
    """A sheet by the command line."""
    cat = next(path for name, path in examples().items() if "cat" in name)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["saliency", str(cat), "--method", "smoothgrad", "--scale", "rank", "--output", folder]
        main(arguments + [a for model in default_models() for a in ("--model", model)])
        shutil.copy(Path(folder) / "comparison.png", OUTPUT / "comparison.png")


def mistake_cases() -> None:
    """A strip for each worked case, and the text between the marks in mistakes.md."""
    begin, end = "<!-- cases: written by make_pictures.py -->\n", "<!-- end of cases -->"
    page = ROOT / "docs" / "mistakes.md"
    before, _, rest = page.read_text("utf-8").partition(begin)
    worked = [flip_cases.work_out(case) for case in flip_cases.cases()]
    for one in worked:
        path = OUTPUT / flip_cases.file_name(one.case)
        flip_cases.strip(one).save(path, quality=88, optimize=True, subsampling=0)
    text = flip_cases.markdown(worked, OUTPUT.name)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def fooled() -> None:
    """A sheet for each cause of mistakes, and the text between the marks in mistakes.md."""
    begin, end = "<!-- fooled: written by make_pictures.py -->\n", "<!-- end of fooled -->"
    page = ROOT / "docs" / "mistakes.md"
    before, _, rest = page.read_text("utf-8").partition(begin)
    cases = fooled_cases()
    for cause, chosen in fooled_sheet.by_cause(cases).items():
        if chosen:
            sheet = fooled_sheet.sheet(chosen)
            sheet.save(OUTPUT / fooled_sheet.file_name(cause), quality=85, optimize=True)
    text = fooled_sheet.markdown(cases, OUTPUT.name)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def gallery(tab, url: str) -> None:
    """The front page."""
    tab.goto(url, wait_until="domcontentloaded")
    loaded = "[...document.images].filter(image => image.complete && image.naturalWidth > 40).length > 12"
    tab.wait_for_function(loaded, timeout=60_000)
    _settle(tab)
    save(tab.screenshot(full_page=True), "gallery.png", 1300)


def saliency(tab, url: str) -> None:
    """Three networks and one photo."""
    models = "&".join(f"model={name}" for name in default_models())
    tab.goto(f"{url}?tab=saliency&{models}&method=depth_fusion&example=Chelsea+the+cat", wait_until="domcontentloaded")
    tab.wait_for_function("document.querySelector('#status')?.innerText.includes('Done in')", timeout=240_000)
    _settle(tab)
    save(tab.screenshot(full_page=True), "saliency.png", 1150)


def mistakes(tab, url: str) -> None:
    """Why a network is wrong about a photo: the maps of the first mistake."""
    tab.goto(f"{url}?tab=mistakes", wait_until="domcontentloaded")
    tab.wait_for_selector(".lsd-verdict", timeout=240_000)
    _settle(tab)
    save(tab.screenshot(full_page=True), "mistakes.png", 1500)


def choices(tab, url: str) -> None:
    """How the methods compare."""
    tab.goto(f"{url}?tab=choices&factor=method", wait_until="domcontentloaded")
    tab.wait_for_selector("[data-factor=method]", timeout=60_000)
    _settle(tab)
    save(tab.screenshot(full_page=True), "choices.png", 1700)


def features(tab, url: str) -> None:
    """One class by three networks, made on the spot."""
    models = "&model=".join(default_models())
    tab.goto(f"{url}?tab=features&model={models}&unit=class/257", wait_until="domcontentloaded")
    tab.wait_for_function("document.querySelector('#features-status')?.innerText.includes('Done in')", timeout=400_000)
    _settle(tab)
    save(tab.screenshot(full_page=True), "features.png", 1500)


def _settle(tab) -> None:
    tab.wait_for_timeout(2500)


TABS = {"gallery": gallery, "saliency": saliency, "mistakes": mistakes, "choices": choices, "features": features}


def screenshots(names: list[str]) -> None:
    """Tabs as a visitor sees them."""
    page = build()
    _, url, _ = page.launch(**launch_settings(), server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name in names:
            TABS[name](browser.new_page(viewport={"width": 1400, "height": 1050}), url)
        browser.close()
    page.close()


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or ["comparison", *TABS]
    if "comparison" in wanted:
        comparison()
    if "mistake_cases" in wanted:
        mistake_cases()
    if "fooled" in wanted:
        fooled()
    if tabs := [name for name in wanted if name in TABS]:
        screenshots(tabs)

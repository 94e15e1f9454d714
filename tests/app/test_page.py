"""The whole page."""

from lsd.ui import controls
from lsd.ui.page import build


def test_without_packages_the_page_starts_with_the_demo_networks(monkeypatch):
    """As after `pip install --no-deps`."""
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr("lsd.packages.find_spec", lambda name: None)
    build()
    assert controls.default_models() and all(name.startswith("demo:") for name in controls.default_models())

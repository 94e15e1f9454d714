"""The page's scripts and styles, which are files beside the modules that use them."""

from pathlib import Path

_UI = Path(__file__).parents[1]


def script(name: str) -> str:
    """The text of a JavaScript file of `lsd/ui`, such as "gallery/gallery.js"."""
    return (_UI / name).read_text(encoding="utf-8")


def styles() -> list[Path]:
    """Every CSS file of the page, the theme's first."""
    return [*sorted((_UI / "theme").glob("*.css")), *sorted(p for p in _UI.glob("*/*.css") if p.parent.name != "theme")]

"""Pictures to start from: the photos in the wheels of scikit-image and scikit-learn, and a few that the demo data set draws."""

import functools
import shutil
from pathlib import Path

from lsd.images import CREDITS, example_images
from lsd.ui.shared.scratch import new_folder

_DEMO = ((0, 3, None), (6, 11, None), (9, 5, None), (13, 2, 4))  # class, seed, tag
_DEMO_SIZE = 480


@functools.cache
def examples() -> dict[str, Path]:
    """Name → file. All lie in one temporary folder, made once a process: Gradio serves no file from site-packages."""
    from PIL import Image

    from lsd.demo import CLASS_NAMES, render

    folder = new_folder()
    found = {name: Path(shutil.copy(source, folder)) for name, source in example_images().items()}
    for class_index, seed, tag in _DEMO:
        name = CLASS_NAMES[class_index] + ("" if tag is None else f", tagged {CLASS_NAMES[tag]}")
        path = folder / (name.replace(",", "").replace(" ", "-") + ".png")
        Image.fromarray(render(class_index, seed, size=_DEMO_SIZE, tag=tag).image).save(path)
        found[name] = path
    return found


def photos() -> list[str]:
    """The names of those that are photos."""
    known = example_images()
    return [name for name in examples() if name in known]


def drawn() -> list[str]:
    """The names of those that the demo data set draws."""
    known = example_images()
    return [name for name in examples() if name not in known]


def credit() -> str:
    """Whose photos those are that ask for it, in one line; "" if none does."""
    return "; ".join(f"{name}: {CREDITS[name]}" for name in photos() if name in CREDITS)


def example_of(path: str | Path | None) -> str:
    """The name of the example that a picture is, by its content; "" if it is none."""
    if path is None or not Path(path).is_file():
        return ""
    size, known = Path(path).stat().st_size, examples().items()
    same = (
        name for name, file in known if file.stat().st_size == size and file.read_bytes() == Path(path).read_bytes()
    )
    return next(same, "")

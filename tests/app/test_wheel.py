"""What `pip install .` installs is all of it: from a wheel, in another environment, run in another folder."""

import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import forking

ROOT = Path(__file__).parents[2]
IN_THE_WHEEL = ("lsd", "gallery", "precompute", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Iterator[Callable[..., str]]:
    """`installed(folder, *arguments)`: what Python prints in a folder, of an environment that has this project's wheel, and the
    requirements from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in IN_THE_WHEEL:  # a copy, as building leaves things behind
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / "source").mkdir(exist_ok=True)
        copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", packages, wheel], check=True)
    (packages / "requirements.pth").write_text("\n".join(site.getsitepackages()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LSD_", "PYTHON"))}
    python = folder / "env" / "bin" / "python"
    with forking(folder, ("gradio", "timm"), environment=kept | {"HF_HUB_OFFLINE": "1"}, python=python) as forks:

        def run(inside: Path, *arguments: str) -> str:
            done = forks.run(arguments, inside)
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def test_the_command_line_runs_from_the_wheel(installed, tmp_path):
    out = installed(
        tmp_path, "-m", "lsd", "saliency", "example:Coffee cup", "--model", "demo:resnet", "--output", "maps"
    )
    assert "demo:resnet" in out and (tmp_path / "maps" / "comparison.png").is_file()
    out = installed(tmp_path, "-m", "lsd", "features", "--model", "demo:vit", "--unit", "class/1", "--steps", "2")
    assert "class/1" in out and (tmp_path / "lsd-features" / "sheet.png").is_file()
    plan = ["-m", "precompute", "plan", "--models", "demo:resnet", "--units", "class:all", "--steps", "2"]
    assert "16 pictures" in installed(tmp_path, *plan)


def test_the_page_and_the_gallery_are_in_the_wheel(installed, tmp_path):
    code = """
import sys
from pathlib import Path

import lsd
from gallery.source import open_gallery
from lsd.ui.page import build

assert Path(lsd.__file__).is_relative_to(Path(sys.prefix)), lsd.__file__
build()
print(open_gallery().rows)
"""
    assert int(installed(tmp_path, "-c", code).splitlines()[-1]) > 1000

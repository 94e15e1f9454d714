"""Every command and every snippet of README.md and of docs for users runs as it stands, without the Hub and without settings."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import forking

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/usage.md", "docs/library.md")
INSTALL, TESTS = "pip install -r requirements.txt && python app.py", "bash tests/run.sh"
# What would take minutes takes a few steps here; all else is as it stands.
FEWER = {"python -m lsd features": ["--steps", "4"], "python -m precompute run": ["--steps", "4"],
         "python -m precompute plan": ["--steps", "4"], "python -m lsd reasons": ["--no-pictures"]}  # fmt: skip
# None of the networks that come with the requirements has an attention that can be read: a small one of the tests' takes its place.
FROM_THE_HUB = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WITHOUT = ("--from", "--list-layers", "--list-recipes")
# What programs import of others; none of ours.
OTHERS = ("timm", "captum.attr", "datasets", "duckdb", "gradio_client", "pyarrow.parquet", "scipy.ndimage", "tqdm")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def commands(page: str) -> list[str]:
    """Its shell commands, a line each."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


def environment(**more: str) -> dict[str, str]:
    """A stranger's: nothing of ours is set, and the Hub is out of reach."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LSD_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PATH": path, **more}


def shortened(words: list[str]) -> list[str]:
    for start, fewer in FEWER.items():
        if words[: len(start.split())] == start.split() and not set(WITHOUT) & set(words):
            return words + fewer
    return words


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Iterator[Callable[[list[str], Path], None]]:
    """`python(arguments, folder)`: a program that must end well."""
    with forking(tmp_path_factory.mktemp("forks"), OTHERS, environment=environment()) as forks:

        def run(arguments: list[str], folder: Path) -> None:
            done = forks.run(arguments, folder)
            assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"

        yield run


def test_the_pages_have_what_they_are_read_for():
    assert INSTALL in commands("README.md") and TESTS in commands("README.md")
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 4


@pytest.mark.parametrize("page", PAGES[:2])
def test_every_command_runs(page, tmp_path, small_vit, python):
    """In their order, in one folder: a later one may go on with what an earlier one made."""
    asked = [line.replace(FROM_THE_HUB, small_vit) for line in commands(page) if line not in (INSTALL, TESTS)]
    lines = [shortened(shlex.split(line, comments=True)) for line in asked]
    assert len(lines) >= 3 and all(line[:2] == ["python", "-m"] for line in lines)
    for _, *words in lines:
        python(words, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_runs(page, tmp_path, page_url, python):
    for code in blocks(page, "python"):
        python(["-c", code.replace("http://127.0.0.1:7860", page_url)], tmp_path)


def test_the_page_opens(tmp_path):
    """The README's first command, but for the installation."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")], cwd=tmp_path,
        env=environment(GRADIO_SERVER_PORT=port, TMPDIR=str(tmp_path)),  # what a signal ends clears nothing away
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert server.poll() is None, server.stdout.read()
                time.sleep(0.5)
        else:
            pytest.fail("no answer in a minute")
    finally:
        server.terminate()
        server.wait(30)


def test_every_link_leads_somewhere():
    for page in [ROOT / name for name in PAGES]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

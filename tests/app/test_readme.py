"""Every command and every snippet of README.md and of docs for users runs as it stands, without the Hub and without settings."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/usage.md", "docs/library.md")
INSTALL, TESTS = "pip install -r requirements.txt && python app.py", "bash tests/run.sh"
# What would take minutes takes a few steps here; all else is as it stands.
FEWER = {"python -m lsd features": ["--steps", "4"], "python -m precompute run": ["--steps", "4"],
         "python -m precompute plan": ["--steps", "4"], "python -m lsd reasons": ["--no-pictures"]}  # fmt: skip
# None of the networks that come with the requirements has an attention that can be read: a small one of the tests' takes its place.
FROM_THE_HUB = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WITHOUT = ("--from", "--list-layers", "--list-recipes")
# What is asked of `python`, in a process of its own each time. They are forked from one that has imported others' modules,
# which take seconds, and none of ours.
FORKS = """
import gc, gradio_client, json, os, pyarrow.parquet, runpy, scipy.ndimage, sys, timm

gc.freeze()  # or each would go through, and so copy, all that was imported when it ends
for option, what, *arguments in json.load(sys.stdin):
    print("python", option, what, *arguments, flush=True)
    if not os.fork():
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True) if option == "-m" else exec(what)
        break
    if os.wait()[1]:
        sys.exit("That failed.")
"""


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


def run(asked: list[list[str]], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], input=json.dumps(asked), cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_pages_have_what_they_are_read_for():
    assert INSTALL in commands("README.md") and TESTS in commands("README.md")
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 4


@pytest.mark.parametrize("page", PAGES[:2])
def test_every_command_runs(page, tmp_path, small_vit):
    """In their order, in one folder: a later one may go on with what an earlier one made."""
    asked = [line.replace(FROM_THE_HUB, small_vit) for line in commands(page) if line not in (INSTALL, TESTS)]
    lines = [shortened(shlex.split(line, comments=True)) for line in asked]
    assert len(lines) >= 3 and all(line[:2] == ["python", "-m"] for line in lines)
    run([words for _, *words in lines], tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_runs(page, tmp_path, page_url):
    run([["-c", code.replace("http://127.0.0.1:7860", page_url)] for code in blocks(page, "python")], tmp_path)


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

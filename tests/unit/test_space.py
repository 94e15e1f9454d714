"""What Hugging Face reads from README.md, and what a container is made of."""

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from lsd.curated import CURATED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def front():
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])


COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}  # that the Hub has


def needs(name: str) -> dict[str, Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {requirement.name: requirement for requirement in found}


def test_the_front_matter_is_complete_and_true(front):
    assert front["title"] and front["emoji"] and {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in front["tags"])
    assert front["suggested_hardware"] == "cpu-basic" and re.fullmatch(r"\d+[mh]", front["startup_duration_timeout"])
    assert front["sdk"] == "gradio" and front["license"] == "apache-2.0"
    assert len(front["short_description"]) <= 60  # what the Hub takes
    assert (ROOT / front["app_file"]).is_file()
    assert front["sdk_version"] in needs("requirements.txt")["gradio"].specifier and Version(
        front["sdk_version"]
    ) <= Version(version("gradio"))


def test_what_is_installed_first_is_what_is_needed_and_comes_without_cuda():
    first = (ROOT / "pre-requirements.txt").read_text(encoding="utf-8")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in first
    assert needs("pre-requirements.txt").items() <= needs("requirements.txt").items()


def test_its_python_is_the_one_these_tests_run_on(front):
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != front["python_version"]:
        pytest.skip(f"the Space runs Python {front['python_version']}, and this is {here}")


def test_what_is_fetched_beforehand_is_in_the_catalogue(front):
    asked = [line.split(" ") for line in front["preload_from_hub"]]
    assert {repository.removeprefix("timm/") for repository, _ in asked} <= {network.name for network in CURATED}
    assert all(files == "config.json,model.safetensors" for _, files in asked)  # all that the loader reads


def test_the_container_runs_the_same_page_as_an_ordinary_user(front):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM python:{front['python_version']}-slim" in text
    assert "-r pre-requirements.txt && pip install --no-cache-dir -r requirements.txt" in text
    assert re.search(r"^USER [1-9]\d*$", text, re.M) and "HEALTHCHECK" in text and text.count("VOLUME") == 1
    assert 'CMD ["python", "app.py"]' in text and "LSD_PUBLIC=1" in text

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


def test_the_front_matter_is_complete_and_true(front):
    assert front["sdk"] == "gradio" and front["license"] == "apache-2.0"
    assert len(front["short_description"]) <= 60  # what the Hub takes
    assert (ROOT / front["app_file"]).is_file()
    needed = next(
        Requirement(line)
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("gradio")
    )
    assert front["sdk_version"] in needed.specifier and Version(front["sdk_version"]) <= Version(version("gradio"))


def test_its_python_is_the_one_these_tests_run_on(front):
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != front["python_version"]:
        pytest.skip(f"the Space runs Python {front['python_version']}, and this is {here}")


def test_what_is_fetched_beforehand_is_in_the_catalogue(front):
    names = [line.partition(" ")[0].removeprefix("timm/") for line in front["preload_from_hub"]]
    assert names and set(names) <= {network.name for network in CURATED}


def test_the_container_runs_the_same_page_as_an_ordinary_user(front):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM python:{front['python_version']}-slim" in text
    assert re.search(r"^USER (?!root)", text, re.M) and "HEALTHCHECK" in text and text.count("VOLUME") == 1
    assert 'CMD ["python", "app.py"]' in text and "LSD_PUBLIC=1" in text

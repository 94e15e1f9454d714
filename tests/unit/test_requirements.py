"""What the project needs is declared in several files, which agree."""

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def declared(lines) -> dict[str, SpecifierSet]:
    return {needed.name: needed.specifier for needed in map(Requirement, lines)}


def in_file(name: str) -> dict[str, SpecifierSet]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    return declared(line for line in lines if line)


def test_a_lower_bound_is_the_same_wherever_it_is_declared():
    """Only those of the requirement files are tried, as the lowest versions that these allow."""
    tried = in_file("requirements.txt") | in_file("requirements-dev.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    also = [*project["build-system"]["requires"], *chain(*project["project"]["optional-dependencies"].values())]
    assert len(also) >= 2 and declared(also).items() <= tried.items()
    (on_spaces,) = re.findall(r"^sdk_version: (.+)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert on_spaces in tried["gradio"]

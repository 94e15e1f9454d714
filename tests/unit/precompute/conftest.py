"""What the tests of the offline job share: a small run in a folder, made once."""

import multiprocessing
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gallery import shards
from gallery.index import find_shards
from gallery.schema import INCIDENTAL
from lsd.features.recipes import LUCID
from lsd.models import ModelCache
from precompute.plan import Plan, make_plan
from precompute.run import run
from precompute.settings import read
from precompute.tasks import Task

# Processes of this kind are forked from one that has imported everything, so that killing many of them costs little.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["precompute.__main__", "precompute.run", "precompute.plan", "gallery.index", "timm", "tqdm"]
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """As everywhere, but processes of this machine may talk to each other."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise OSError("unit tests have no network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """What passes is tried again at once."""
    monkeypatch.setattr("precompute.storage._PAUSES", (0, 0, 0))
    monkeypatch.setattr("precompute.engines._PAUSES", (0, 0))


def planned(*units: str, **values) -> Plan:
    """The plan of a quick run of `demo:resnet`."""
    return make_plan(read({"models": ["demo:resnet"], "units": list(units), "steps": 2} | values))


def rows_of(folder: Path, without=INCIDENTAL) -> dict[str, dict]:
    """unit_id → row, without what may differ; it fails if one comes twice."""
    rows = [row for path in find_shards(Path(folder)) for row in shards.read_rows(path)]
    found = {row["unit_id"]: {key: row[key] for key in row if key not in without} for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., Plan]:
    """`plan_of("class:0-3", steps=2, …)`: the plan of a quick run of `demo:resnet`."""
    return planned


@pytest.fixture(scope="session")
def rows_in() -> Callable[..., dict[str, dict]]:
    """`rows_in(folder)`: unit_id → row, without the columns that may differ."""
    return rows_of


@pytest.fixture(scope="session")
def _finished_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    plan = planned("class:0-2", "layer3:channels:2", seeds=2, steps=3, verifiers=["demo:convnext", "demo:vit"])
    assert not run(plan, str(folder)).failures
    return folder


@pytest.fixture
def finished_run(_finished_run, tmp_path) -> Path:
    """A folder with ten rows of `demo:resnet` (classes 0 to 2, two channels, two seeds), a copy of one's own."""
    return Path(shutil.copytree(_finished_run, tmp_path / "run"))


@pytest.fixture
def task() -> Task:
    """A task of two classes that nothing needs to be loaded for."""
    return Task("demo:resnet", "ab" * 32, ("class/0", "class/1"), replace(LUCID, steps=2), (0, 1))


@pytest.fixture
def small_model(model_folder, monkeypatch) -> Callable[..., str]:
    """`small_model(name)`: a network with random weights under `LSD_MODEL_PATH`; nothing is remembered of older ones."""

    def make(name: str = "small", **config) -> str:
        folder = model_folder(name, **config)
        monkeypatch.setenv("LSD_MODEL_PATH", str(folder.parent))
        monkeypatch.setattr("lsd.models._cache", ModelCache())
        return name

    return make

"""A data set on the Hub, here one on this machine: sent, cut off and sent on, pinned, streamed and browsed by the real clients."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import forking
from gallery_fixture import make_row, write_shard
from huggingface_hub import constants
from local_hub import TOKEN, serving

from gallery import shards
from gallery.index import NAME, find_shards
from gallery.source import open_hub
from lsd import hub as downloads
from lsd.errors import LSDError
from precompute.publish import assemble

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]

# Each is a program of its own, because the clients read the environment when they are imported. Others' modules do not.
OTHERS = ("duckdb", "fsspec", "pandas", "PIL.Image", "pyarrow.parquet", "torch")
PUBLISH = "from precompute.publish import upload; print(upload(FOLDER, 'user/name'))"
STREAM = """
import json
from datasets import load_dataset

def ids(*config, **settings):
    return [row["unit_id"] for row in load_dataset("user/name", *config, split="train", streaming=True, **settings)]

some = dict(columns=["unit_id", "picture"], filters=[("kind", "==", "class")])
print(json.dumps([[ids(revision=revision, **some), ids("index", revision=revision)] for revision in REVISIONS]))
"""
BROWSE = """
import json
from gallery.filters import Filters
from gallery.source import open_hub
gallery = open_hub(NAME)
entries = gallery.page(Filters()).entries
print(json.dumps({e.unit_id: len(gallery.picture(e)) for e in entries}))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """`client(program, environment, home, **values)`: run as a user of the Hub, with a cache of his own."""
    folder = tmp_path_factory.mktemp("forks")
    with forking(folder, OTHERS, environment=os.environ | {"PYTHONPATH": str(ROOT)}) as forks:

        def run(program: str, environment: dict[str, str], home: Path, **values) -> subprocess.CompletedProcess:
            names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
            return forks.run(["-c", names + program], home, environment | {"HF_HOME": str(home / "cache")})

        yield run


def told(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def published(tmp_path) -> Path:
    """Three models in three shards, and the index."""
    for model in ("one", "two", "three"):
        write_shard(tmp_path / "run", model, [make_row(model, f"class/{i}") for i in range(4)])
    assert assemble(tmp_path / "run", "user/name", tmp_path / "set") == 12
    return tmp_path / "set"


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["unit_id"]: row for path in find_shards(folder) for row in shards.read_rows(path)}


def test_a_data_set_is_sent_cut_off_sent_on_pinned_and_read(published, tmp_path, client):
    expected = rows_of(published)
    with serving() as (hub, environment):
        wrong = client(PUBLISH, environment | {"HF_TOKEN": "hf_wrong"}, tmp_path, FOLDER=str(published))
        assert "log in with hf auth login; run the same command again" in wrong.stderr and not hub.commits

        hub.uploads_left = 2  # of four large files
        cut = client(PUBLISH, environment, tmp_path, FOLDER=str(published))
        assert cut.returncode and "run the same command again to go on" in cut.stderr.splitlines()[-1], cut.stderr
        assert hub.files("main").keys() == {".gitattributes"}  # nobody sees a part
        assert len(hub.large) == 2

        hub.uploads_left, hub.asked = None, []
        first = told(client(PUBLISH, environment, tmp_path, FOLDER=str(published)))
        assert sum(request.startswith("PUT /large/") for request in hub.asked) == 2  # what is there is not sent again
        there = hub.files("main")
        assert {path: data for path, data in there.items() if path != ".gitattributes"} == {
            path.relative_to(published).as_posix(): path.read_bytes() for path in published.rglob("*") if path.is_file()
        }
        assert first == f"user/name@{hub.refs['main']}"

        assert json.loads(told(client(BROWSE, environment, tmp_path, NAME=first))) == {
            name: len(row["picture"]) for name, row in expected.items()
        }

        write_shard(tmp_path / "less", "one", [make_row("one", "class/9")])  # the next edition: other rows, fewer files
        assert assemble(tmp_path / "less", "user/name", tmp_path / "next") == 1
        second = told(client(PUBLISH, environment, tmp_path, FOLDER=str(tmp_path / "next")))
        assert second != first and "data/two/00000.parquet" not in hub.files("main")
        assert sum(request.startswith("PUT /large/") for request in hub.asked) == 4  # its shard and its index
        hub.refs["v1"] = first.partition("@")[2]
        revisions = [None, "v1", second.partition("@")[2]]
        streamed = json.loads(told(client(STREAM, environment, tmp_path, REVISIONS=revisions)))
        assert [[len(names) for names in of_one] for of_one in streamed] == [[1, 1], [12, 12], [1, 1]]
        assert [sorted(names) for names in streamed[1]] == [sorted(expected)] * 2
    assert TOKEN not in "".join(path.read_text() for path in published.glob("*.md"))


@pytest.mark.parametrize("silent", ["HEAD", "GET"])
def test_a_hub_that_takes_a_question_and_is_silent_is_given_up(published, tmp_path, monkeypatch, silent):
    """Before it says what there is, and in place of the file; what is asked again, once it answers, is had."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(downloads, "BEGINNING", 1.0)
    monkeypatch.setattr(downloads, "_GLANCE", 0.1)
    with serving() as (hub, _):
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        commit = hub.commit({NAME: (published / NAME).read_bytes()})
        hub.silent = silent
        with pytest.raises(
            LSDError,
            match=f"{NAME} of the gallery user/name cannot be downloaded .the Hugging Face Hub does not answer",
        ):
            open_hub(f"user/name@{commit}")
        assert hub.asked[-1].startswith(silent)
        hub.silent = ""
        monkeypatch.setattr(
            constants, "HF_HUB_CACHE", str(tmp_path / "another")
        )  # the client that was left holds its lock
        assert open_hub(f"user/name@{commit}").rows == 12

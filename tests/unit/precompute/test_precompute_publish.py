"""A run's folder as a data set: put together, opened by `datasets`, and sent to the Hub."""

import hashlib
import io
import json

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from gallery_fixture import make_row, write_shard
from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from PIL import Image

from gallery import shards
from gallery.index import ORDER, find_shards
from gallery.queries import Gallery
from gallery.schema import HEAVY, ROW_GROUP, SCHEMA, THUMBNAIL
from lsd.errors import LSDError
from lsd.models import get_model
from precompute import publish as publishing
from precompute.publish import assemble, folders, licence, upload
from precompute.run import run


@pytest.fixture(scope="module")
def run_of_two(plan_of, tmp_path_factory):
    """Two models and recipes, with classes and channels, in the order in which a run makes them."""
    folder = tmp_path_factory.mktemp("two") / "run"
    plan = plan_of(
        "class:3,1", "layer2:channels:3", models=["demo:vit", "demo:resnet"], recipe=["none", "lucid"], steps=1
    )
    assert len(plan.problems) == 1  # a transformer has no layer2
    run(plan, str(folder))
    return folder


@pytest.fixture(scope="module")
def published(run_of_two, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "set"
    assert assemble(run_of_two, "user/name", folder) == 14
    return folder


def test_shards_are_few_and_in_browsing_order(published):
    paths = find_shards(published)
    assert [path.relative_to(published).as_posix() for path in paths] == [
        "data/demo_resnet/00000.parquet", "data/demo_vit/00000.parquet",
    ]  # fmt: skip
    rows = [row for path in paths for row in shards.read_rows(path)]
    assert [tuple(row[name] for name in ORDER) for row in rows] == sorted(
        tuple(row[name] for name in ORDER) for row in rows
    )


def test_rows_are_those_of_the_run(published, run_of_two):
    one, other = (
        {row["unit_id"]: row for path in find_shards(folder) for row in shards.read_rows(path)}
        for folder in (published, run_of_two)
    )
    assert len(one) == 14 and one == other


def test_the_folder_opens_with_datasets(published, tmp_path):
    rows = load_dataset(str(published), split="train", cache_dir=str(tmp_path))
    assert rows.num_rows == 14 and set(rows.column_names) == set(SCHEMA.names)
    assert isinstance(rows[0]["picture"], Image.Image) and rows[0]["picture"].size == (96, 96)
    assert rows[0]["own_top"][0]["name"] and isinstance(rows[0]["trace"][0], float)
    index = load_dataset(str(published), "index", split="train", cache_dir=str(tmp_path))
    assert index.num_rows == 14 and set(index.column_names).isdisjoint(HEAVY) and "shard" in index.column_names
    assert index["unit_id"] == rows["unit_id"]


def test_the_folder_streams_with_columns_and_filters(published):
    stream = load_dataset(
        str(published), split="train", streaming=True, columns=["unit_id", "title", "picture"],
        filters=[("model", "==", "demo:vit"), ("kind", "==", "class")],
    )  # fmt: skip
    rows = list(stream)
    assert len(rows) == 4 and all(row.keys() == {"unit_id", "title", "picture"} for row in rows)
    assert all(row["unit_id"].startswith("demo:vit/class/") and row["picture"].size == (96, 96) for row in rows)
    assert len(list(load_dataset(str(published), "index", split="train", streaming=True))) == 14


@pytest.mark.parametrize("streaming", [False, True])
def test_one_models_rows_are_a_configuration(published, tmp_path, streaming):
    for name, count in (("demo_resnet", 10), ("demo_vit", 4)):
        rows = list(load_dataset(str(published), name, split="train", streaming=streaming, cache_dir=str(tmp_path)))
        assert len(rows) == count and {row["model"] for row in rows} == {name.replace("_", ":")}
        assert all(row.keys() == set(SCHEMA.names) and row["picture"].size == (96, 96) for row in rows)


@pytest.mark.parametrize("streaming", [False, True])
def test_thumbnails_are_to_be_had_without_the_pictures(published, tmp_path, streaming):
    rows = load_dataset(str(published), "thumbnails", split="train", streaming=streaming, cache_dir=str(tmp_path))
    found = list(rows)
    assert len(found) == 14 and found[0].keys() == {
        *("thumbnail", "title", "model", "layer", "unit", "recipe", "own_probability", "agreement", "status", "unit_id")
    }
    assert all(max(row["thumbnail"].size) <= THUMBNAIL for row in found)


def test_croissant_describes_every_column_and_file(published):
    """As mlcroissant 1.1 reads it, pictures and all; it is not among what the tests need."""
    about = json.loads((published / "croissant.json").read_text())
    assert about["conformsTo"] == "http://mlcommons.org/croissant/1.0" and about["name"] == "name"
    shards_, index = about["distribution"]
    assert sorted(published.glob(shards_["includes"])) == find_shards(published)
    assert hashlib.sha256((published / index["contentUrl"]).read_bytes()).hexdigest() == index["sha256"]
    (records,) = about["recordSet"]
    fields = {field["name"]: field for field in records["field"]}
    assert list(fields) == SCHEMA.names and all(field["description"] for field in fields.values())
    for column in SCHEMA:
        field = fields[column.name]
        assert field.get("repeated", False) == pa.types.is_list(column.type)
        for part in field.get("subField", [field]):
            assert part["source"]["fileSet"] == {"@id": shards_["@id"]}
            assert part["source"]["extract"] == {"column": column.name}
    kinds = {"picture": "sc:ImageObject", "index": "sc:Integer", "score": "sc:Float", "trace": "sc:Float"}
    assert all(fields[name]["dataType"] == kind for name, kind in kinds.items())
    assert [part["name"] for part in fields["own_top"]["subField"]] == ["index", "name", "probability"]


def test_no_model_takes_the_name_of_another_configuration():
    assert folders(["index", "resnet50.a1_in1k"])["index"] not in ("index", "default", "thumbnails")


def test_the_runs_own_folder_opens_and_streams_as_well(run_of_two, tmp_path):
    assert load_dataset(str(run_of_two), split="train", cache_dir=str(tmp_path)).num_rows == 14
    stream = load_dataset(
        str(run_of_two), split="train", streaming=True, columns=["unit_id"], filters=[("layer", "==", "layer2")]
    )
    assert len(list(stream)) == 6


def test_the_card_says_what_is_in_it(published):
    text = (published / "README.md").read_text()
    about = yaml.safe_load(text.split("---")[1])
    assert about["license"] == "apache-2.0" and about["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in about["configs"]] == [
        *("default", "thumbnails", "index"), *("demo_resnet", "demo_vit"),
    ]  # fmt: skip
    assert all(f"| `{name}` |" in text for name in SCHEMA.names)
    for name, rows in (("resnet", 10), ("vit", 4)):
        digest = get_model(f"demo:{name}").identity.digest[:12]
        assert f"| demo:{name} | {name}, digest {digest} | apache-2.0 | {rows} |" in text
    assert 'load_dataset("user/name"' in text and "# name" in text and "lucid-" in text and "channel, class" in text


def test_rows_of_one_unit_are_published_once_the_last_ones(plan_of, tmp_path):
    folder = tmp_path / "run"
    run(plan_of("class:0-2"), str(folder))
    (path,) = find_shards(folder)
    rows = shards.read_rows(path)
    older = [row | {"created": "2020-01-01T00:00:00+00:00", "title": "old"} for row in rows]
    newer = [row | {"created": "2999-01-01T00:00:00+00:00", "title": "new"} for row in rows[:1]]
    for name, added in (("a", newer), ("zz", older)):
        path.with_name(f"{name}.parquet").write_bytes(shards.table_bytes(shards.to_table(added)))
    assert assemble(folder, "user/name", tmp_path / "set") == 3
    (path,) = find_shards(tmp_path / "set")
    assert [row["title"] for row in shards.read_rows(path)] == ["new", rows[1]["title"], rows[2]["title"]]


def test_a_later_failure_is_not_published_in_place_of_a_picture():
    rows = [make_row(created="2026-01-01", score=1.0), make_row(created="2026-01-02", status="failed")]
    kept = publishing._sorted(shards.to_table(rows)).to_pylist()
    assert [(row["status"], row["score"]) for row in kept] == [("ok", 1.0)]


ALIKE = ("hf-hub:a/b_c", "hf-hub:a_b/c", "hf-hub_a_b_c", "HF-hub_a_b_C", "resnet50.a1_in1k")


def test_models_whose_names_are_alike_are_published_side_by_side(tmp_path):
    for number, model in enumerate(ALIKE):
        rows = [make_row(model, f"class/{i}", score=float(number)) for i in range(10)]
        write_shard(tmp_path / "run", f"part-{number}", rows)
    assert assemble(tmp_path / "run", "user/name", tmp_path / "set") == 50
    paths = find_shards(tmp_path / "set")
    assert len({path.parent.name.lower() for path in paths}) == len(paths) == 5
    assert "resnet50.a1_in1k" in {path.parent.name for path in paths}
    for path in paths:
        assert {(row["model"], row["score"]) for row in shards.read_rows(path)} in [
            {p} for p in zip(ALIKE, range(5), strict=True)
        ]
    text = (tmp_path / "set" / "README.md").read_text()
    assert "50 feature visualizations" in text and Gallery(tmp_path / "set").rows == 50


def test_folders_are_one_to_one_and_plain_where_they_can_be():
    names = folders(ALIKE)
    assert len({name.lower() for name in names.values()}) == 5 and names["resnet50.a1_in1k"] == "resnet50.a1_in1k"
    assert all(names[model] == folders(ALIKE[::-1])[model] for model in ALIKE)
    assert folders(["demo:resnet"]) == {"demo:resnet": "demo_resnet"}


def test_a_shard_of_several_models_and_one_of_none_are_published(tmp_path):
    write_shard(tmp_path / "run", "a", [make_row("one"), make_row("two"), make_row("one", "class/208")])
    (tmp_path / "run/data/one/b.parquet").write_bytes(shards.table_bytes(shards.to_table([])))
    assert assemble(tmp_path / "run", "user/name", tmp_path / "set") == 3
    assert {path.parent.name: pq.read_metadata(path).num_rows for path in find_shards(tmp_path / "set")} == {
        "one": 2, "two": 1,
    }  # fmt: skip


@pytest.mark.parametrize("lost", ["a file", "rows"])
def test_what_was_written_is_counted_and_compared(finished_run, tmp_path, monkeypatch, lost):
    put = publishing.Storage.put

    def losing(self, path, data, *check):
        put(self, path, data, *check)
        if path.startswith("data/"):
            (tmp_path / "set" / path).unlink()
            if lost == "rows":
                rows = shards.read_rows(data)[1:]
                (tmp_path / "set" / path).write_bytes(shards.table_bytes(shards.to_table(rows)))

    monkeypatch.setattr(publishing.Storage, "put", losing)
    there = {"a file": 0, "rows": 9}[lost]
    with pytest.raises(LSDError, match=f"Of demo:resnet 10 rows were to be published, and {there} are in"):
        assemble(finished_run, "user/name", tmp_path / "set")


def test_no_more_than_some_row_groups_are_in_memory(tmp_path, monkeypatch):
    """Two recipes, whose rows alternate in browsing order, in shards of one recipe each."""
    random = np.random.default_rng(0)
    for recipe in ("lsd", "lucid"):
        rows = [make_row(unit=f"class/{i}", recipe=recipe, picture=random.bytes(20_000)) for i in range(512)]
        for start in range(0, 512, 64):
            write_shard(tmp_path / "run", f"{recipe}-{start}", rows[start : start + 64])
    monkeypatch.setattr(publishing, "_READ_AHEAD", 3_000_000)
    reads, most, original = [], [], shards.read_group
    before = pa.total_allocated_bytes()

    def watched(path, group):
        table = original(path, group)
        reads.append((path, group))
        most.append(pa.total_allocated_bytes() - before)
        return table

    monkeypatch.setattr(shards, "read_group", watched)
    assert assemble(tmp_path / "run", "user/name", tmp_path / "set", shard_bytes=2_000_000) == 1024
    assert len(reads) == len(set(reads)) == 16 and max(most) < 12_000_000  # of 20 MB of pictures
    rows = [row for path in find_shards(tmp_path / "set") for row in shards.read_rows(path)]
    assert [(row["index"], row["recipe"]) for row in rows] == [(i, r) for i in range(512) for r in ("lsd", "lucid")]
    groups = [pq.read_metadata(path).row_group(0).num_rows for path in find_shards(tmp_path / "set")]
    assert groups[0] == ROW_GROUP and len(groups) == 11


def test_large_models_are_cut_into_several_files(run_of_two, tmp_path):
    assemble(run_of_two, "user/name", tmp_path / "set", shard_bytes=3_000)
    paths = sorted((tmp_path / "set" / "data" / "demo_resnet").iterdir())
    assert len(paths) > 1 and [path.name for path in paths] == [f"{i:05}.parquet" for i in range(len(paths))]
    assert sum(pq.read_metadata(path).num_rows for path in paths) == 10
    assert all(sum(len(row["picture"]) for row in shards.read_rows(path)) <= 3_000 for path in paths)


def test_rows_without_a_picture_are_published_and_counted(finished_run, tmp_path):
    (path,) = find_shards(finished_run)
    rows = shards.read_rows(path)
    rows[0] |= {"status": "failed", "error": "It broke.", "picture": None, "thumbnail": None}
    path.write_bytes(shards.table_bytes(shards.to_table(rows)))
    assert assemble(finished_run, "user/name", tmp_path / "set") == 10
    assert "1 rows have no picture" in (tmp_path / "set" / "README.md").read_text()


def test_an_older_data_set_is_replaced(finished_run, run_of_two, tmp_path):
    output = tmp_path / "set"
    assemble(run_of_two, "user/name", output)
    assert assemble(finished_run, "user/name", output) == 10
    assert {path.parent.name for path in find_shards(output)} == {"demo_resnet"}


@pytest.mark.parametrize("instant", ["README.md", "data", "index.parquet"])
def test_what_a_killed_publication_left_is_replaced(finished_run, tmp_path, monkeypatch, instant):
    class Killed(BaseException):
        pass

    put = publishing.Storage.put

    def dying(self, path, data, *check):
        if path.startswith(instant):
            raise Killed
        put(self, path, data, *check)
        if path.startswith("data"):
            (tmp_path / "set" / ".index-left").mkdir(exist_ok=True)

    def killed(folder):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publishing.Storage, "put", dying)
        patch.setattr(publishing, "build", killed)
        with pytest.raises(Killed):
            assemble(finished_run, "user/name", tmp_path / "set")
    assert assemble(finished_run, "user/name", tmp_path / "set") == 10
    assert {path.name for path in (tmp_path / "set").iterdir()} == {
        *("README.md", "croissant.json", "data", "index.parquet")
    }


@pytest.mark.parametrize("what", ["a photo", "another data set", "a file", "the run itself"])
def test_a_folder_that_holds_something_else_is_refused(finished_run, tmp_path, what):
    output = tmp_path / "set"
    if what == "a file":
        output.write_text("mine")
    elif what == "the run itself":
        output = finished_run
    else:
        (output / "data").mkdir(parents=True)
        (output / "data" / "mine.parquet").write_text("mine")
        if what == "another data set":
            (output / "README.md").write_text("---\npretty_name: My own\n---\n")
    with pytest.raises(LSDError, match="holds something else; give an empty folder"):
        assemble(finished_run, "user/name", output)
    assert (
        what == "the run itself"
        or next(p for p in (output, output / "data/mine.parquet") if p.is_file()).read_text() == "mine"
    )
    assert find_shards(finished_run)


def test_where_there_are_no_pictures_there_is_nothing_to_publish(tmp_path):
    with pytest.raises(LSDError, match="There are no pictures in"):
        assemble(tmp_path, "user/name", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_damaged_shard_is_named(finished_run, tmp_path):
    (path,) = find_shards(finished_run)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LSDError, match=f"{path.name} is no whole parquet file"):
        assemble(finished_run, "user/name", tmp_path / "set")


def test_licences_are_looked_up(small_model):
    assert licence("demo:vit") == "apache-2.0" and licence("resnet50.a1_in1k") == "apache-2.0"
    assert licence("vit_base_patch16_224.mae") == "cc-by-nc-4.0" and licence("no_such_model") == "not stated"
    assert licence("resnet50.a_tag_of_my_own") == "not stated"
    small_model("mine", license="mit")
    assert licence("mine") == "mit"
    small_model("silent")
    assert licence("silent") == "not stated"


def answering(code):
    """What the Hub's client raises for a status."""
    response = httpx.Response(code, request=httpx.Request("POST", "https://huggingface.co"))
    return HfHubHTTPError(f"{code} Error:\n what it says", response=response)


@pytest.mark.parametrize("error, words", [
    (LocalTokenNotFoundError("no token"), "You are not logged in to the Hugging Face Hub; run hf auth login"),
    (answering(401), "user/name could not be published: log in with hf auth login; run the same command again"),
    (answering(403), "could not be published: the Hub said: 403 Error: what it says"),
    (httpx.ConnectError("no route"), r"the Hub is out of reach \(ConnectError\); run the same command again"),
    (OSError("no network"), r"the Hub is out of reach \(OSError\)"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["create_repo", "upload_folder"])
def test_what_goes_wrong_on_the_hub_is_one_sentence(published, monkeypatch, error, words, method):
    def fail(self, *arguments, **settings):
        raise error

    monkeypatch.setattr(HfApi, "create_repo", lambda *arguments, **settings: None)
    monkeypatch.setattr(HfApi, method, fail)
    with pytest.raises(LSDError, match=words) as caught:
        upload(published, "user/name")
    assert "\n" not in str(caught.value)


def test_a_name_that_no_repository_can_have_is_refused(published):
    with pytest.raises(LSDError, match="“no such name” is not the name of a repository on the Hub; write user/name"):
        upload(published, "no such name")


def test_the_whole_folder_is_sent_and_what_is_gone_is_deleted_there(published, monkeypatch):
    sent = {}
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo, **settings: sent.update(created=(repo, settings)))

    def upload_folder(self, **settings):
        sent.update(settings)
        return CommitInfo("https://huggingface.co/datasets/user/name/commit/c0ffee", "Sent", "", "c0ffee")

    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    assert upload(published, "user/name") == "user/name@c0ffee"
    assert sent["created"] == ("user/name", {"repo_type": "dataset", "exist_ok": True})
    assert sent["folder_path"] == published and sent["repo_type"] == "dataset" and sent["delete_patterns"] == "data/*"


def test_pictures_in_the_data_set_are_webp(published):
    row = shards.read_rows(find_shards(published)[0])[0]
    with Image.open(io.BytesIO(row["picture"])) as image:
        assert image.format == "WEBP"

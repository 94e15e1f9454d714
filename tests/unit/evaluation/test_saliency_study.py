"""The saliency study from the command line: planned, run, kept, gone on with, reported."""

import io
import json
import math
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsd.demo import CLASS_NAMES
from lsd.errors import LSDError
from lsd.evaluation import labelled, ranking, saliency
from lsd.evaluation.__main__ import main
from lsd.evaluation.choices import as_measured
from lsd.evaluation.classes import Label
from lsd.evaluation.labelled import Item, LabelledSet
from lsd.evaluation.saliency import CHOSEN_ON, DEMO_MODELS, Study, Task, plan, run_task, select
from lsd.evaluation.saliency_rows import read_rows, rows_bytes, table_bytes
from lsd.evaluation.saliency_scores import DEMO_TIMES, Size
from lsd.evaluation.variants import FACTORS, variants

MODELS = ("a", "b")
SIZE = Size(photos=21, grids=20, many=16, removed=16, full=32, trust=5, regions=24)
STUDY = Study("pictures", SIZE, tuple(range(1000, 1022)), tuple(range(1000, 1021)))


@pytest.fixture
def no_weights(monkeypatch):
    """Files can be named without loading a model: its weights' hash is its name."""
    monkeypatch.setattr(saliency, "get_model", lambda name: SimpleNamespace(identity=SimpleNamespace(sha256=name)))


@pytest.mark.parametrize("study", [STUDY, replace(STUDY, chosen=(3, 1, 2), sure=STUDY.sure[:9], size=Size(photos=3))])
def test_the_plan_holds_everything_once(no_weights, study):
    tasks = plan(study, MODELS)
    size = study.size
    grids = min(len(study.sure), size.grids)
    expected = {"photos": (len(study.chosen), 1, MODELS), "grid2": (grids // 4, 4, MODELS), "demo": (size.photos, 1, DEMO_MODELS),
                "grid3": (grids // 9, 9, MODELS), "trust": (1, 1, (*MODELS, *DEMO_MODELS))}  # fmt: skip
    assert {t.part for t in tasks} == set(expected)
    for part, (count, group, models) in expected.items():
        own = [t for t in tasks if t.part == part]
        assert {t.model for t in own} == set(models)
        for model in models:
            items = [(t.start + i, members) for t in own if t.model == model for i, members in enumerate(t.items)]
            assert sorted(items) == [(i, tuple(range(group * i, group * (i + 1)))) for i in range(count)]
    files = [saliency._file(study, task) for task in tasks]
    assert len(set(files)) == len(files)
    assert all(file.endswith(".parquet") and "/" not in file for file in files)


def test_a_study_that_is_cut_short_has_some_of_each_part():
    tasks = plan(STUDY, MODELS)
    assert [t.part for t in tasks].index("trust") == len(tasks) - len(MODELS) - len(DEMO_MODELS)
    pictures = [t.start * len(t.items[0]) for t in tasks if t.part != "trust"]
    assert pictures == sorted(pictures)
    first = {(t.part, t.model) for t in tasks if t.start == 0}
    assert {(t.part, t.model) for t in tasks[: len(first) - 5]} == {one for one in first if one[0] != "trust"}


def test_a_model_that_is_named_twice_counts_once():
    tasks = plan(STUDY, ["a", "demo:vit", "a"])
    assert max(Counter((t.part, t.model, t.start) for t in tasks).values()) == 1
    assert {t.model for t in tasks if t.part == "photos"} == {"a", "demo:vit"}


def test_a_file_is_named_by_all_that_its_rows_depend_on(no_weights, monkeypatch):
    photo, drawn = Task("photos", "a", 4, ((4,), (5,))), Task("demo", "demo:vit", 4, ((4,), (5,)))
    grids, trust = Task("grid2", "a", 1, ((4, 5, 6, 7),)), Task("trust", "a", 0, ((0,),))

    def same(task, other=None, **size):
        return saliency._file(STUDY, task) == saliency._file(other or replace(STUDY, size=replace(SIZE, **size)), task)

    for task in (photo, drawn, grids, trust):
        assert same(
            task, replace(STUDY, chosen=(*STUDY.chosen, 1), sure=(*STUDY.sure, 1), size=replace(SIZE, photos=400))
        )
        assert not same(task, regions=23)
        assert same(task, replace(STUDY, images="elsewhere/pictures"))
    assert not same(photo, many=5) and same(photo, many=6) and not same(photo, full=5) and not same(photo, removed=5)
    assert same(drawn, many=6 // DEMO_TIMES) and not same(drawn, many=1)
    assert not same(grids, many=7) and same(grids, many=8)
    for position in (4, 5):
        others = list(STUDY.chosen)
        others[position] = 7
        moved = replace(STUDY, chosen=tuple(others))
        assert not same(photo, moved) and same(grids, moved) and same(drawn, moved)
        assert same(trust, moved) == (position >= SIZE.trust)
        assert not same(grids, replace(STUDY, sure=tuple(others)))
    before = saliency._file(STUDY, photo)
    assert saliency._file(STUDY, replace(photo, model="b")).partition("-0004-")[2] != before.partition("-0004-")[2]
    monkeypatch.setattr(saliency, "variants", lambda: variants()[:-1])
    saliency._compared.cache_clear()
    try:
        assert saliency._file(STUDY, photo) != before
    finally:
        saliency._compared.cache_clear()


def test_a_place_among_drawn_pictures_is_always_the_same_picture():
    few, many = (list(saliency._demo(replace(STUDY, size=Size(photos=n)))) for n in (9, 300))
    assert few == many[: len(few)] and len(few) >= 9 and len(many) >= 300
    assert len({item.id for item in many}) == len(many)
    assert [item.label.number for item in few] == [*range(len(CLASS_NAMES))]


@dataclass
class Scan:
    """Of 60 pictures of 20 classes by two models."""

    right: np.ndarray  # (2, 60)
    sure: np.ndarray

    def install(self, monkeypatch):
        items = tuple(Item(f"{i:03d}", Label(f"class {i % 20}", number=i % 20)) for i in range(60))
        pictures = LabelledSet("set", items)
        true = np.tile(np.arange(60) % 20, (2, 1))
        readable = [i for i in range(60) if i != 6]  # one picture is damaged, and counts nowhere
        result = SimpleNamespace(
            items=tuple(items[i] for i in readable), true=true[:, readable], wrong=~self.right[:, readable],
            true_probability=np.where(self.sure, 0.95, 0.85)[:, readable],
        )  # fmt: skip
        monkeypatch.setattr(saliency, "open_set", lambda images: pictures)
        steps = [SimpleNamespace(done=i, total=2, result=result if i == 2 else None) for i in range(3)]
        monkeypatch.setattr(saliency, "scan", lambda models, pictures: iter(steps))


def test_pictures_are_those_that_all_models_get_right(monkeypatch):
    rng = np.random.default_rng(0)
    right, sure = rng.random((2, 60)) < 0.9, rng.random((2, 60)) < 0.8
    Scan(right, sure).install(monkeypatch)
    chosen, confident = select(["a", "b"], "pictures", 60)
    able = [i for i in range(60) if right[:, i].all() and i != 6 and i % 20 % CHOSEN_ON]
    assert sorted(chosen) == able
    assert list(chosen) != sorted(chosen)  # neighbours in a folder look alike
    able = [i for i in able if sure[:, i].all()]
    assert set(confident) <= set(able) and len(confident) == len({i % 20 for i in able})
    assert len({i % 20 for i in confident}) == len(confident)  # no class is there twice in a grid
    assert [i for i in chosen if i in confident] == list(confident)
    few = select(["a", "b"], "pictures", 12)
    assert few == (chosen[:12], confident[:12])  # more go on where fewer ended


def test_pictures_to_choose_by_are_not_those_that_judge(monkeypatch):
    Scan(np.ones((2, 60), bool), np.ones((2, 60), bool)).install(monkeypatch)
    monkeypatch.setattr(saliency, "CHOSEN_ON", 2)
    judging, choosing = (select(["a", "b"], "pictures", 60, choosing=it)[0] for it in (False, True))
    assert {i % 2 for i in judging} == {1} and {i % 2 for i in choosing} == {0}
    assert sorted([*judging, *choosing]) == [i for i in range(60) if i != 6]


def test_too_few_for_a_grid_are_told(monkeypatch):
    sure = np.arange(60) % 20 < 10
    Scan(np.ones((2, 60), bool), np.tile(sure, (2, 1))).install(monkeypatch)
    with pytest.raises(LSDError, match="only 8 classes") as error:
        select(["a", "b"], "pictures", 60)
    assert "\n" not in str(error.value)


class Inline(Executor):
    """Runs a task when it is given it, in this process."""

    def __init__(self, *_):
        pass

    def submit(self, function, *given):
        future = Future()
        future.set_result(function(*given))
        return future


def finite(value):
    if isinstance(value, dict | list):
        return all(map(finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_a_study_is_run_kept_gone_on_with_and_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(labelled, "DEMO_PER_CLASS", 2)  # classify 32 pictures, not 1600
    monkeypatch.setattr(ranking, "DRAWS", 50)
    output = tmp_path / "study"

    def study(*more, photos=9):
        return main([
            "saliency", "--models", "demo:resnet", "--images", "demo", "--photos", str(photos), "--grids", "9", "--many", "0",
            "--removed", "1", "--full", "0", "--trust", "1", "--regions", "4", "--workers", "1", "--output", str(output),
            "--summary", str(tmp_path / "summary.json"), *more,
        ])  # fmt: skip

    # In a process of its own, as ever.
    assert study("--parts", "grid2", "grid3") == 0
    first = files(output)
    assert sorted(name.split("-demo_resnet-")[0] for name in first) == ["grid2", "grid2", "grid3"]
    assert {"tables.md", "study.json", "selection.json"} < {path.name for path in output.iterdir()}
    about = json.loads((output / "study.json").read_text())
    assert about["models"] == ["demo:resnet"] and about["size"]["grids"] == 9 and about["environment"]["torch"]
    printed = capsys.readouterr().out
    assert "3 tasks, 0 of them there already" in printed and "3/3" in printed
    assert (output / "tables.md").read_text() in printed + "\n"
    rows = read_rows([*output.glob("*.parquet")])
    assert len({(r["part"], r["item"]) for r in rows.to_pylist() if r["metric"] == "grid2"}) == 8
    assert len({(r["part"], r["item"]) for r in rows.to_pylist() if r["metric"] == "grid3"}) == 9

    # Here, as starting a process takes seconds.
    monkeypatch.setattr(saliency, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(saliency, "select", lambda *_, **__: pytest.fail("classified again"))
    assert study("--parts", "grid2", "grid3") == 0 and files(output) == first
    scored = []

    def scoring(model, x, index, position, size, mask, only):
        scored.append((position, index, mask is not None, x.shape))
        return [("method/gradient", "mu_fidelity", 0.5), ("method/grad_cam", "mu_fidelity", 0.25 + position / 100)]

    monkeypatch.setattr(saliency, "score_picture", scoring)
    monkeypatch.setattr(saliency, "trust_rows", lambda *_: [("0", "method/gradient", "impossible", 1.0)])
    assert study() == 0
    every = files(output)
    assert first.items() < every.items()
    assert Counter(name.partition("-")[0] for name in every) == {
        "grid2": 2,
        "grid3": 1,
        "photos": 3,
        "demo": 6,
        "trust": 3,
    }
    assert [s for s in scored if not s[2]] == [s for s in scored if s[0] < 9 and not s[2]] and len(scored) == 9 + 3 * 9
    assert {s[3] for s in scored} == {(3, 96, 96)}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert finite(summary) and summary["models"] == sorted(DEMO_MODELS)
    assert summary["pictures"]["photos/mu_fidelity"] == 9 == summary["pictures"]["demo/mu_fidelity"]
    assert summary["trust"]["gradient"]["impossible"] == dict.fromkeys(DEMO_MODELS, 1.0)
    assert set(summary["seconds"]) == {"photos", "grid2", "grid3", "demo", "trust"}

    # More pictures: what is there stays, and only what is missing is made.
    kept = json.loads((output / "selection.json").read_text())
    other = next(i for i in range(32) if i not in kept["chosen"])
    monkeypatch.setattr(saliency, "select", lambda *_, **__: ([*kept["chosen"], other], kept["sure"]))
    scored.clear()
    assert study("--parts", "photos", photos=10) == 0 and [s[0] for s in scored] == [8, 9]
    more = files(output)
    assert every.items() < more.items() and len(more) == len(every) + 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["pictures"]["photos/mu_fidelity"] == 10  # the ninth is in two files, and counts once

    # A damaged file is told by its name, and made anew.
    (new,) = more.keys() - every.keys()
    data = (output / new).read_bytes()
    for damaged in (data[:-100], data[: len(data) // 3] + b"damaged" + data[len(data) // 3 + 7 :]):
        (output / new).write_bytes(damaged)
        capsys.readouterr()
        assert study("--report", photos=10) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith(f"lsd: {new} is damaged") and "\n" not in told and told.endswith(".")
    (output / new).unlink()
    scored.clear()
    assert study("--parts", "photos", photos=10) == 0 and [s[0] for s in scored] == [8, 9]
    assert files(output).keys() == more.keys()


def standing_rows(path, names):
    """Rows of an earlier study: photos in this order, the first four of them a grid, depth fusion at ½ everywhere."""
    photos = rows_bytes("photos", "demo:resnet", [(name, "method/depth_fusion", "mu_fidelity", 0.5) for name in names])
    cells = [(f"0|{name}", "method/depth_fusion", "grid2", 0.5) for name in names[:4]]
    tables = [pq.read_table(io.BytesIO(data)) for data in (photos, rows_bytes("grid2", "demo:resnet", cells))]
    path.write_bytes(table_bytes(pa.concat_tables(tables).unify_dictionaries()))
    return path


def test_new_methods_are_added_to_rows_that_stand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(labelled, "DEMO_PER_CLASS", 2)
    monkeypatch.setattr(ranking, "DRAWS", 50)
    monkeypatch.setattr(saliency, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(saliency, "select", lambda *_, **__: pytest.fail("the pictures are known"))
    names = [item.id for item in reversed(labelled.open_set("demo"))][:6]
    standing, whole = standing_rows(tmp_path / "standing.parquet", names), tmp_path / "all.parquet"
    scored = []

    def scoring(model, x, index, position, size, mask, only):
        scored.append(tuple(v.level for v in only))
        assert all(v == as_measured(FACTORS["method"].on("", v.level)) for v in only)
        return [("method/hires_cam", "mu_fidelity", 0.9)]

    def scoring_grid(model, cells, indices, position, size, only):
        scored.append(tuple(v.level for v in only))
        return [[("method/hires_cam", "grid2", 0.2)] for _ in cells]

    def trusting(model, images, indices, samples, only):
        scored.append(tuple(v.level for v in only))
        return [("0", "method/hires_cam", "impossible", 0.7)]

    monkeypatch.setattr(saliency, "score_picture", scoring)
    monkeypatch.setattr(saliency, "score_grid", scoring_grid)
    monkeypatch.setattr(saliency, "trust_rows", trusting)

    def study(beside):
        return main([
            "saliency", "--models", "demo:resnet", "--images", "demo", "--photos", "6", "--workers", "1",
            "--parts", "photos", "grid2", "trust", "--methods", "hires_cam", "score_cam", "--beside", str(beside),
            "--output", str(tmp_path / "study"),
            "--rows", str(whole), "--summary", str(tmp_path / "summary.json"),
        ])  # fmt: skip

    assert study(standing) == 0 and scored == [("hires_cam", "score_cam")] * (7 + len(DEMO_MODELS))
    rows = read_rows([whole]).to_pylist()
    assert [r["item"] for r in rows if r["part"] == "photos" and r["variant"] == "method/hires_cam"] == names
    cells = [f"0|{name}" for name in names[:4]]
    assert [r["item"] for r in rows if r["part"] == "grid2" and r["variant"] == "method/hires_cam"] == cells
    assert sum(r["variant"] == "method/depth_fusion" for r in rows) == 10
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["trust"] == {"hires_cam": {"impossible": dict.fromkeys(DEMO_MODELS, 0.7)}}
    told = summary["factors"]["method"]["against"]["hires_cam"]["metrics"]
    assert told["photos/mu_fidelity"][0] == 1.0 and told["photos/mu_fidelity"][3] == 6  # better on all six pictures
    capsys.readouterr()
    assert study(standing_rows(tmp_path / "others.parquet", [*names[:5], "elsewhere.jpg"])) == 2
    told = capsys.readouterr().err.strip()
    assert told == "lsd: others.parquet is about other pictures than those of demo, elsewhere.jpg among them."


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_no_results_to_report_are_told(tmp_path, capsys, folder):
    command = ["saliency", "--models", "demo:resnet", "--images", "demo", "--output", str(tmp_path / folder)]
    assert main([*command, "--report"]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("lsd: There are no results of this study in") and "\n" not in told
    assert main([*command, "--workers", "0"]) == 2
    assert capsys.readouterr().err.strip() == "lsd: --workers must be at least 1, and is 0."


def test_a_drawn_picture_is_scored_by_its_mask():
    study = Study("demo", replace(SIZE, many=0, removed=0, full=0, regions=4), (), ())
    table = pq.read_table(io.BytesIO(run_task(study, Task("demo", "demo:resnet", 3, ((3,),)))))
    rows = table.to_pylist()
    assert {(r["part"], r["model"]) for r in rows} == {("demo", "demo:resnet")}
    item = saliency._demo(study)[3]
    assert {r["item"] for r in rows} == {item.id, ""} and [r["metric"] for r in rows if not r["item"]] == ["seconds"]
    assert {r["metric"] for r in rows} == {"mu_fidelity", "shown", "energy", "pointing", "seconds"}
    energy = {r["variant"]: r["value"] for r in rows if r["metric"] == "energy"}
    assert energy["method/gradient"] > item.mask().mean()  # it has learned what is drawn


def test_a_failure_ends_the_study_at_once(tmp_path, monkeypatch, capsys):
    run = []

    def fails_once(study, task):
        run.append(task)
        if len(run) == 1:
            raise LSDError("It went wrong.")
        time.sleep(0.2)
        return b""

    places = list(range(9))
    monkeypatch.setattr(saliency, "run_task", fails_once)
    monkeypatch.setattr(saliency, "select", lambda *_, **__: (places, places))
    monkeypatch.setattr(saliency, "ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))
    status = main([
        "saliency", "--models", "demo:resnet", "demo:vit", "--images", "demo", "--workers", "1", "--photos", "60",
        "--output", str(tmp_path),
    ])  # fmt: skip
    assert status == 2 and capsys.readouterr().err.strip() == "lsd: It went wrong."
    assert len(run) < 15  # of 39
    assert not files(tmp_path)


def test_a_part_that_there_is_not_is_refused_by_name(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["saliency", "--models", "demo:resnet", "--images", "demo", "--output", str(tmp_path), "--parts", "grids"])
    assert "'grids'" in capsys.readouterr().err

"""One task's rows: complete, right, the same again; and what fails becomes a row without a picture."""

import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gallery import pictures, shards
from gallery.schema import FEATURES, INCIDENTAL, SCHEMA, TRACE_POINTS
from lsd.errors import UndefinedError
from lsd.faults import DISK
from lsd.features.ascent import ascend_jobs
from lsd.features.bundle import pixels_sha256
from lsd.features.judge import to_batch
from lsd.features.pictures import Job
from lsd.features.recipes import LUCID, Recipe
from lsd.features.units import parse
from lsd.layers import curated_layers, list_layers
from lsd.models import get_model
from lsd.tracing import Tap, run_to
from precompute import work
from precompute.storage import Storage, sha256
from precompute.work import finished, make_rows, one_sentence, run_task


@pytest.fixture(scope="module")
def made(plan_of):
    """(task, rows) of two seeds of classes, a channel, a neuron, a sum and a contrast."""
    units = (
        "class:0,1",
        "layer3:channels:2",
        "layer2/neuron/3/2/2",
        "class/2 + 0.5 * layer3/channel/1",
        "contrast/0/1",
    )
    (task,) = plan_of(*units, seeds=2, steps=3, verifiers=["demo:convnext", "demo:vit"], batch_size=4).tasks
    return task, make_rows(task)[0]


@pytest.fixture(scope="module")
def ascended(made):
    """unit, seed → the finished picture, made beside the rows."""
    task, _ = made
    jobs = [Job(parse(unit), seed) for unit in task.units for seed in task.seeds]
    found = {}
    for snapshot in ascend_jobs(get_model(task.model), jobs, task.recipe, batch_size=4):
        found |= {(str(p.job.unit), p.job.seed): p for p in snapshot.finished}
    return found


@pytest.fixture(scope="module")
def pixels(ascended):
    """unit, seed → the pixels before WebP."""
    return {key: picture.pixels for key, picture in ascended.items()}


def slow_probabilities(image: np.ndarray, name: str) -> np.ndarray:
    """Softmax of one picture, by hand."""
    model = get_model(name)
    values = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = model.net((values - model.mean) / model.std)[0].double().numpy()
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def test_a_row_has_every_column_and_nothing_else(made):
    _, rows = made
    assert len(rows) == 14 and all(row.keys() == set(SCHEMA.names) for row in rows)
    assert shards.to_table(rows).schema.equals(FEATURES.arrow_schema)


def test_rows_come_in_browsing_order(made):
    _, rows = made
    assert [(row["layer"], row["kind"], row["index"]) for row in rows[::2]] == [
        ("layer2", "neuron", 3), ("layer3", "channel", 0), ("layer3", "channel", rows[4]["index"]),
        ("", "class", 0), ("", "class", 1), ("", "contrast", 0), ("", "expression", -1),
    ]  # fmt: skip
    assert [row["seed"] for row in rows] == [0, 1] * 7
    assert [row["depth"] for row in rows] == sorted(row["depth"] for row in rows)
    assert rows[-1]["depth"] == len(list_layers(get_model("demo:resnet")))


def test_a_row_says_what_it_is(made):
    task, rows = made
    row = next(row for row in rows if row["unit"] == "class/1")
    model = get_model("demo:resnet")
    assert row["unit_id"] == f"demo:resnet/class/1/lsd-{task.recipe.hash[:8]}/0"
    assert row["class_name"] == model.class_names[1] and row["title"] and row["synset"] == ""
    assert (
        row["weights_digest"] == model.identity.digest
        and row["weights_sha256"] == model.identity.sha256
        and row["weights_source"] == "demo"
    )
    assert row["architecture"] == model.architecture and row["family"] == model.family and row["task"] == task.hash
    assert Recipe.from_dict(json.loads(row["recipe_json"])) == task.recipe
    environment = json.loads(row["environment"])
    assert environment["threads"] == torch.get_num_threads() and environment["torch"] and environment["device"] == "cpu"
    assert next(row["class_name"] for row in rows if row["kind"] == "channel") == ""


def test_pictures_are_what_the_ascent_made(made, ascended):
    for row in made[1]:
        picture = ascended[row["unit"], row["seed"]]
        image = picture.pixels
        assert row["pixels_sha256"] == pixels_sha256(image) and row["picture"] == pictures.webp(image, 90)
        assert row["thumbnail"] == pictures.thumbnail(image) and (row["width"], row["height"]) == (96, 96)
        assert row["status"] == picture.status and row["error"] == "" and row["score"] == picture.score
        assert row["steps"] == 3 and tuple(row["trace"]) == picture.trace and row["restarts"] == picture.restarts


def test_batches_are_told_as_they_were(made):
    task, rows = made
    jobs = [(unit, seed) for unit in task.units for seed in task.seeds]
    for row in rows:
        number = jobs.index((row["unit"], row["seed"]))
        assert (row["batch"], row["batch_place"]) == divmod(number, 4)
        assert row["batch_size"] == (4 if row["batch"] < 3 else 2)


def test_what_the_networks_see_is_recomputed_slowly(made, pixels):
    for row in made[1]:
        image = pixels[row["unit"], row["seed"]]
        own = slow_probabilities(image, "demo:resnet")
        order = np.argsort(-own)[:5]
        assert [top["index"] for top in row["own_top"]] == order.tolist()
        np.testing.assert_allclose([top["probability"] for top in row["own_top"]], own[order], rtol=1e-4)
        judged = {v["model"]: slow_probabilities(image, v["model"]) for v in row["verifiers"]}
        assert list(judged) == ["demo:convnext", "demo:vit"]
        for verdict in row["verifiers"]:
            assert verdict["top"][0]["index"] == judged[verdict["model"]].argmax()
            assert verdict["top"][0]["name"]
        if row["kind"] == "class":
            assert row["own_probability"] == pytest.approx(own[row["index"]], rel=1e-4)
            assert row["agreement"] == np.mean([p.argmax() == row["index"] for p in judged.values()])
        else:
            assert row["own_probability"] is None and row["agreement"] is None


def test_agreement_is_the_share_of_verifiers_whose_first_answer_is_the_class(plan_of, monkeypatch):
    answers = {"demo:resnet": 2, "demo:convnext": 1, "demo:vit": 0, "demo:shortcut": 1}

    def sure(pixels, model):
        p = torch.full((len(pixels), model.num_classes), 0.01)
        p[:, answers[model.name]] = 0.5
        return p

    monkeypatch.setattr(work, "probabilities", sure)
    verifiers = ["demo:convnext", "demo:vit", "demo:shortcut"]
    (task,) = plan_of("class:0-2", verifiers=verifiers).tasks
    rows, _ = make_rows(task)
    alike = [get_model(name).class_names == get_model("demo:resnet").class_names for name in verifiers]
    votes = [answers[name] for name, same in zip(verifiers, alike, strict=True) if same]
    assert 1 in votes and 0 in votes
    assert [row["agreement"] for row in rows] == [votes.count(i) / len(votes) for i in range(3)]
    assert [row["own_probability"] for row in rows] == pytest.approx([0.01, 0.01, 0.5])
    assert [verdict["top"][0]["index"] for verdict in rows[0]["verifiers"]] == [1, 0, 1]


def test_rows_tell_whose_class_names_are_assumed(plan_of, small_model):
    small_model("nameless", num_classes=1000)
    (row,) = make_rows(plan_of("class/1", verifiers=["nameless"]).tasks[0])[0]
    assert row["names_assumed"] == ["nameless"] and row["said"] == "{}"
    (own,) = make_rows(plan_of("class/1", models=["nameless"]).tasks[0])[0]
    assert own["names_assumed"] == ["nameless"]


def test_verifiers_of_other_classes_say_what_they_see_but_do_not_agree(plan_of, small_model):
    name = small_model()  # ten classes of its own
    (task,) = plan_of("class:0", verifiers=[name]).tasks
    ((row,), _) = make_rows(task)
    assert row["verifiers"][0]["model"] == name and len(row["verifiers"][0]["top"]) == 5
    assert row["agreement"] is None and row["own_probability"] is not None


def test_spread_is_recomputed_slowly_over_the_seeds(made, pixels):
    model = get_model("demo:resnet")
    tap = Tap(curated_layers(model)[-1].name)
    for row in made[1]:
        images = to_batch([pixels[row["unit"], seed] for seed in (0, 1)], model)
        with torch.no_grad():
            a, b = run_to(model, images, [tap])[tap].flatten(1).double()
        assert row["spread"] == pytest.approx(1 - F.cosine_similarity(a, b, dim=0).item(), abs=1e-6)


def test_one_seed_has_no_spread(plan_of):
    ((row,), _) = make_rows(plan_of("class:0").tasks[0])
    assert row["spread"] is None


def test_long_traces_are_thinned_and_keep_their_ends():
    trace = [float(i) for i in range(1000)]
    thin = work._thinned(trace)
    assert len(thin) == TRACE_POINTS and thin[0] == 0 and thin[-1] == 999 and thin == sorted(thin)
    assert work._thinned([1.0, float("nan")]) == [1.0, None] and work._thinned([]) == []


def test_the_same_task_makes_the_same_rows_but_for_what_is_incidental(made):
    task, rows = made
    again, _ = make_rows(task)
    for one, other in zip(rows, again, strict=True):
        assert {k: one[k] for k in one.keys() - set(INCIDENTAL)} == {k: other[k] for k in one.keys() - set(INCIDENTAL)}


def test_a_unit_that_nothing_reaches_is_a_row_that_says_so(plan_of, monkeypatch):
    def dead(*arguments, **settings):
        for snapshot in ascend_jobs(*arguments, **settings):
            yield replace(snapshot, finished=tuple(replace(p, status="dead") for p in snapshot.finished))

    monkeypatch.setattr(work, "ascend_jobs", dead)
    ((row,), _) = make_rows(plan_of("class:0").tasks[0])
    assert row["status"] == "dead" and row["picture"] and row["error"] == ""


def test_what_has_to_be_said_of_a_picture_is_in_its_row(plan_of, monkeypatch):
    def noted(*arguments, **settings):
        for snapshot in ascend_jobs(*arguments, **settings):
            yield replace(snapshot, finished=tuple(replace(p, notes=("It is so.",)) for p in snapshot.finished))

    monkeypatch.setattr(work, "ascend_jobs", noted)
    rows, _ = make_rows(plan_of("class:0").tasks[0])
    (stored,) = shards.to_table(rows)["notes"].to_pylist()
    assert stored == ["It is so."]


def break_at(monkeypatch, broken, error):
    """Let the ascent raise whenever the unit `broken` is in the batch; how often it was tried."""
    tries = []

    def breaking(model, jobs, *arguments, **settings):
        tries.append(len(jobs))
        for snapshot in ascend_jobs(model, jobs, *arguments, **settings):
            if any(str(job.unit) in broken for job in snapshot.jobs):
                raise error
            yield snapshot

    monkeypatch.setattr(work, "ascend_jobs", breaking)
    return tries


@pytest.mark.parametrize("error, words", [
    (RuntimeError("the network\nbroke"), "RuntimeError: the network broke"),
    (KeyError("mask"), "KeyError: 'mask'"),
    (UndefinedError("There is no such thing."), "There is no such thing."),
    (RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"), "RuntimeError: Expected all "
     "tensors to be on the same device, but found cuda:0 and cpu!"),
])  # fmt: skip
def test_a_unit_that_breaks_is_a_row_with_its_error_and_its_neighbours_are_made(plan_of, monkeypatch, error, words):
    (task,) = plan_of("class:0-7", steps=4, recipe=["lucid"]).tasks
    whole = {row["unit"]: row for row in make_rows(task)[0]}
    tries = break_at(monkeypatch, {"class/5"}, error)
    rows = {row["unit"]: row for row in make_rows(task)[0]}
    assert tries == [8, 4, 4, 2, 1, 1, 2]
    assert list(rows) == list(whole) and rows["class/5"]["status"] == "failed" and rows["class/5"]["error"] == words
    assert "picture" not in rows["class/5"] and rows["class/5"]["unit_id"] == whole["class/5"]["unit_id"]
    for unit in whole.keys() - {"class/5"}:
        one, other = (pictures.pixels(made[unit]["picture"]).astype(int) for made in (whole, rows))
        assert rows[unit]["status"] == "ok" and abs(one - other).max() <= 8  # a batch of another shape rounds otherwise
    assert len({(row["batch"], row["batch_place"]) for row in rows.values() if "batch" in row}) == 7


MACHINE = [
    (RuntimeError("CUDA error: device-side assert triggered"), "device"),
    (torch.AcceleratorError("an illegal memory access was encountered"), "device"),
    (MemoryError(), "memory"),
    (torch.OutOfMemoryError("out of memory"), "memory"),
    (OSError(5, "Input/output error"), "disk"),
    (ConnectionResetError("reset"), "network"),
]


@pytest.mark.parametrize("error, fault", MACHINE)
@pytest.mark.parametrize("where", ["ascent", "judging"])
def test_a_machine_that_fails_leaves_no_rows_and_no_marker(plan_of, tmp_path, monkeypatch, error, fault, where):
    (task,) = plan_of("class:0-7").tasks

    def dead(*arguments, **settings):
        raise error

    with monkeypatch.context() as patch:
        if where == "ascent":
            break_at(patch, {"class/5"}, error)
        else:
            patch.setattr(work, "probabilities", dead)
        outcome = run_task(task, str(tmp_path))
    assert (outcome.fault, outcome.pictures) == (fault, 0)
    assert [what for what, _ in outcome.failures] == [task.title] and not list(tmp_path.rglob("*.*"))
    healthy = run_task(task, str(tmp_path))
    assert (healthy.fault, healthy.failures, healthy.pictures, healthy.reused) == ("", (), 8, False)


def test_a_batch_that_is_too_large_for_the_memory_is_halved(plan_of, monkeypatch):
    tries = []

    def small(model, jobs, *arguments, **settings):
        tries.append(len(jobs))
        if len(jobs) > 2:
            raise MemoryError
        return ascend_jobs(model, jobs, *arguments, **settings)

    monkeypatch.setattr(work, "ascend_jobs", small)
    rows, _ = make_rows(plan_of("class:0-7").tasks[0])
    assert [row["status"] for row in rows] == ["ok"] * 8 and tries == [8, 4, 2, 2, 4, 2, 2]


def test_pictures_that_were_finished_before_a_unit_broke_are_kept_as_they_are(plan_of, monkeypatch):
    (task,) = plan_of("class:0-7", batch_size=4).tasks
    whole = {row["unit"]: row for row in make_rows(task)[0]}
    tries = break_at(monkeypatch, {"class/7"}, RuntimeError("broke"))
    rows = {row["unit"]: row for row in make_rows(task)[0]}
    assert tries == [8, 2, 2, 1, 1]
    for unit in ("class/0", "class/1", "class/2", "class/3"):
        assert rows[unit]["pixels_sha256"] == whole[unit]["pixels_sha256"] and rows[unit]["batch_size"] == 4


def test_when_every_unit_breaks_every_row_says_so(plan_of, monkeypatch):
    break_at(monkeypatch, {f"class/{i}" for i in range(5)}, RuntimeError("broke"))
    rows, _ = make_rows(plan_of("class:0-4").tasks[0])
    assert [row["status"] for row in rows] == ["failed"] * 5
    assert shards.to_table(rows).num_rows == 5


def test_numbers_that_run_out_of_range_are_a_row_with_an_error(plan_of, monkeypatch):
    def failing(*arguments, **settings):
        for snapshot in ascend_jobs(*arguments, **settings):
            pictures_ = [replace(p, status="failed") if p.job.seed else p for p in snapshot.finished]
            yield replace(snapshot, finished=tuple(pictures_))

    monkeypatch.setattr(work, "ascend_jobs", failing)
    rows, _ = make_rows(plan_of("class:0", seeds=2).tasks[0])
    assert [row["status"] for row in rows] == ["ok", "failed"] and "left the range of numbers" in rows[1]["error"]


def test_units_that_the_model_lacks_are_rows_with_an_error(plan_of):
    """A plan has none; but a plan can be older than the program that carries it out."""
    (task,) = plan_of("class:0").tasks
    task = replace(task, units=("class/0", "class/999", "layer9/channel/0", "demo:vit::class/1"), others=())
    rows = {row["unit"]: row for row in make_rows(task)[0]}
    assert rows["class/0"]["status"] == "ok"
    assert "out of range" in rows["class/999"]["error"] and rows["class/999"]["class_name"] == ""
    assert "has no layer" in rows["layer9/channel/0"]["error"]
    assert "not among the models that are loaded" in rows["demo:vit::class/1"]["error"]


def test_a_class_of_another_model_is_not_taken_for_ones_own(plan_of, small_model):
    small_model("many", num_classes=40)
    (task,) = plan_of("many::class/35").tasks
    ((row,), _) = make_rows(task)
    assert row["status"] == "ok" and row["class_name"] == "" and row["own_probability"] is None
    assert row["agreement"] is None and row["title"] == "many::class/35" and len(row["own_top"]) == 5


def test_a_model_without_a_classifier_has_no_opinion(plan_of, small_model):
    name = small_model("headless", num_classes=0)
    (task,) = plan_of("layer:curated:1", models=[name], verifiers=["demo:vit"]).tasks
    rows, _ = make_rows(task)
    assert rows and all(row["status"] in ("ok", "dead") and row["own_top"] is None for row in rows)
    assert all(row["verifiers"][0]["model"] == "demo:vit" for row in rows)


def test_classes_of_imagenet_carry_their_wordnet_id(plan_of, small_model):
    small_model("large", num_classes=1000)
    ((row,), _) = make_rows(plan_of("class:207", models=["large"]).tasks[0])
    assert row["synset"] == "n02099601" and "golden retriever" in row["class_name"]
    small_model("other", num_classes=1000, label_names=[f"thing {i}" for i in range(1000)])
    ((row,), _) = make_rows(plan_of("class:207", models=["other"]).tasks[0])
    assert row["synset"] == "" and row["class_name"] == "thing 207"


@pytest.mark.parametrize("part", ["weights_digest", "verifiers", "others"])
def test_other_weights_than_those_of_the_plan_are_refused(plan_of, tmp_path, part):
    (task,) = plan_of("class/0 + demo:vit::class/0", verifiers=["demo:vit"]).tasks
    other = "0" * 64 if part == "weights_digest" else (("demo:vit", "0" * 64),)
    task = replace(task, **{part: other})
    outcome = run_task(task, str(tmp_path))
    ((what, sentence),) = outcome.failures
    assert what == task.title and "are not those of the plan" in sentence and outcome.pictures == 0
    assert not list(tmp_path.iterdir())


def test_a_marker_says_what_the_shard_is(plan_of, tmp_path):
    (task,) = plan_of("class:0,1").tasks
    run_task(task, str(tmp_path))
    record = json.loads((tmp_path / task.marker).read_text())
    data = (tmp_path / task.shard).read_bytes()
    assert record["sha256"] == sha256(data) and record["bytes"] == len(data)
    assert record["rows"] == 2 and record["recipe_hash"] == task.recipe.hash and record["task"] == task.to_dict()
    assert set(record["versions"]) == {"torch", "timm", "pyarrow"} and record["failures"] == []


def test_rows_that_are_there_are_not_made_again(plan_of, tmp_path, monkeypatch):
    (task,) = plan_of("class:0,1").tasks
    first = run_task(task, str(tmp_path))
    monkeypatch.setattr(work, "make_rows", lambda task: pytest.fail("made again"))
    again = run_task(task, str(tmp_path), again=True)  # nothing of it failed
    assert not first.reused and again == replace(first, reused=True, ascent=again.ascent, seconds=again.seconds)


def test_failed_rows_are_made_again_only_if_asked_for(plan_of, tmp_path, monkeypatch):
    (task,) = plan_of("class:0,1").tasks
    with monkeypatch.context() as patch:
        break_at(patch, {"class/1"}, RuntimeError("broke"))
        first = run_task(task, str(tmp_path))
    assert [what for what, _ in first.failures] == [f"demo:resnet/class/1/lsd-{task.recipe.hash[:8]}/0"]
    assert run_task(task, str(tmp_path)).failures == first.failures
    assert run_task(task, str(tmp_path), again=True).failures == ()
    assert finished(task, Storage(str(tmp_path))).failures == ()


@pytest.mark.parametrize("damage", [
    "marker gone", "marker empty", "marker cut", "marker null", "marker list", "marker of another kind", "marker not text",
    "shard gone", "shard cut", "shard empty",
])  # fmt: skip
def test_damaged_files_are_not_taken_for_finished(plan_of, tmp_path, damage):
    (task,) = plan_of("class:0,1").tasks
    run_task(task, str(tmp_path))
    what, _, how = damage.partition(" ")
    path = tmp_path / (task.marker if what == "marker" else task.shard)
    data = path.read_bytes()
    content = {"empty": b"", "cut": data[: len(data) // 2], "null": b"null", "list": b"[1]", "not text": b"\xff\xfe"}
    if how == "gone":
        path.unlink()
    else:
        record = json.loads(data) | {"rows": "many"} if how == "of another kind" else None
        path.write_bytes(content.get(how) if record is None else json.dumps(record).encode())
    assert finished(task, Storage(str(tmp_path))) is None
    assert not run_task(task, str(tmp_path)).reused
    assert finished(task, Storage(str(tmp_path))).pictures == 2


def test_a_shard_that_comes_back_from_a_bucket_with_other_bytes_leaves_no_marker(plan_of, monkeypatch):
    """The machine is to blame, so the task is tried again."""
    (task,) = plan_of("class:0").tasks
    url = f"memory://{uuid.uuid4().hex}/run"
    get, storage = Storage.get, Storage(url)

    def flipped(self, path):
        data = bytearray(get(self, path) or b"")
        if path == task.shard:
            data[len(data) // 2] ^= 1
        return bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "get", flipped)
        outcome = run_task(task, url)
    assert (outcome.pictures, outcome.fault) == (0, DISK) and "with other bytes than were written" in outcome.failures[
        0
    ][1]
    assert storage.get(task.marker) is None and work.all_finished([task], storage) == {}
    assert run_task(task, url).pictures == 1 and task.hash in work.all_finished([task], storage)


def test_two_writers_of_one_task_end_with_a_marker_of_the_shard_that_is_there(plan_of, tmp_path, monkeypatch):
    """Whoever puts the marker there last may not be the one whose shard came last."""
    (task,) = plan_of("class:0,1").tasks
    put = Storage.put

    def interrupted(self, path, data, *check):
        if path == task.marker:
            monkeypatch.setattr(Storage, "put", put)
            run_task(task, str(tmp_path))  # another run: its shard and its marker come in between
        put(self, path, data, *check)

    monkeypatch.setattr(Storage, "put", interrupted)
    run_task(task, str(tmp_path))
    record = json.loads((tmp_path / task.marker).read_text())
    assert record["sha256"] == sha256((tmp_path / task.shard).read_bytes())


def test_errors_are_one_sentence():
    assert one_sentence(UndefinedError("Not\n  so.")) == "Not so."
    assert one_sentence(RuntimeError("x" * 1000)) == "RuntimeError: " + "x" * 300


def test_the_shipped_recipes_have_short_ids(plan_of):
    (task,) = plan_of("class:0").tasks
    task = replace(task, recipe=replace(LUCID))
    maker = work._RowMaker(task, get_model("demo:resnet"), [])
    assert maker.failed(Job(parse("class/0"), 3), "no")["unit_id"] == "demo:resnet/class/0/lucid/3"

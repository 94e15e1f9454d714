"""Memory is asked for before it is taken, from one account."""

import json
import shutil
import threading
import types

import pytest
import timm
import torch

from lsd import account
from lsd.account import ACCOUNT, Account, MemoryLimitError, machine_bytes
from lsd.demo import MODELS_DIR
from lsd.features.prepare import prepare
from lsd.models import ImageModel, ModelCache, load_model
from lsd.progress import listening

MB = 2**20


@pytest.fixture
def bounded():
    """The process's account with another limit, for a while."""

    def enforce(limit):
        ACCOUNT.enforce(limit)

    before = ACCOUNT.limit
    yield enforce
    ACCOUNT.enforce(before)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(account, "PATIENCE", 0.0)


def enforcing(limit):
    made = Account()
    made.enforce(limit)
    return made


def test_what_cannot_fit_is_refused_and_told_what_would():
    asked = enforcing(100 * MB)
    with (
        pytest.raises(
            MemoryLimitError, match=r"^It would take about 210 MB of memory, and there are 84 MB for it here: 3 "
        ),
        asked.room(200 * MB, "It", beside=20 * MB, smaller=lambda most: f"{most // (25 * MB)} would fit"),
    ):
        raise AssertionError
    assert asked.held == 0


def test_without_a_limit_nothing_is_refused():
    with Account().room(2**60, "It"):
        pass


def test_tensors_count_while_they_are_there_and_what_they_share_once():
    asked, first = enforcing(100 * MB), torch.zeros(MB)
    asked.keep([first, first.view(2, -1), first.detach()])
    assert asked.held == 4 * MB
    asked.keep([first, second := torch.zeros(MB // 2)])
    assert asked.held == 6 * MB
    del first
    assert asked.held == 2 * MB
    del second
    assert asked.held == 0


def test_idle_things_are_given_up_for_work():
    asked, idle = enforcing(10 * MB), [torch.zeros(MB), torch.zeros(MB)]
    asked.keep(idle)
    asked.offers(lambda: bool(idle) and idle.pop(0) is not None)
    with asked.room(5 * MB, "It"):
        assert len(idle) == 1 and asked.held == 9 * MB


def test_work_waits_until_others_are_done():
    asked, begun, over = enforcing(10 * MB), threading.Event(), threading.Event()

    def first():
        with asked.room(8 * MB, "It"):
            begun.set()
            over.wait(10)

    def heard(done, total):
        over.set()  # the second waits now

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(10)
    with listening(heard), asked.room(8 * MB, "It"):
        assert over.is_set() and asked.held == 8 * MB
    thread.join(10)
    assert asked.held == 0


def test_who_waits_too_long_is_told_to_come_back(impatient):
    asked = enforcing(10 * MB)
    with (
        asked.room(8 * MB, "It"),
        pytest.raises(MemoryLimitError, match="which others have at the moment; please try again"),
        asked.room(8 * MB, "It"),
    ):
        raise AssertionError
    assert asked.held == 0


def test_who_waits_can_be_stopped():
    class Stop(BaseException):
        pass

    def stop(done, total):
        raise Stop

    asked = enforcing(10 * MB)
    with asked.room(8 * MB, "It"), listening(stop), pytest.raises(Stop), asked.room(8 * MB, "It"):
        raise AssertionError
    assert asked.held == 0


def test_a_container_has_less_than_its_machine(monkeypatch, tmp_path):
    meminfo, version_2, version_1 = (tmp_path / name for name in ("meminfo", "memory.max", "limit"))
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree:         1000000 kB\n")
    monkeypatch.setattr(account, "_MEMINFO", meminfo)
    monkeypatch.setattr(account, "_CGROUP", (version_2, version_1))
    assert machine_bytes() == 16_000_000 * 1024
    version_2.write_text("max\n")
    assert machine_bytes() == 16_000_000 * 1024
    version_1.write_text(str(2**31))
    assert machine_bytes() == 2**31
    version_2.write_text(str(2**30))
    assert machine_bytes() == 2**30


def test_the_budget_is_what_the_variable_says(monkeypatch):
    monkeypatch.setattr(account, "machine_bytes", lambda: 10 * 2**30)
    monkeypatch.delenv("LSD_MEMORY_BYTES", raising=False)
    assert torch.cuda.is_available() or account.budget() == 6 * 2**30
    monkeypatch.setenv("LSD_MEMORY_BYTES", "5000000000")
    assert account.budget() == 5_000_000_000


def test_a_loaded_model_and_its_twin_are_in_the_account(bounded):
    bounded(2**40)
    before = ACCOUNT.held
    model = load_model("demo:resnet", device="cpu")
    assert ACCOUNT.held - before == pytest.approx(model.nbytes, rel=0.01)
    twin = prepare(model)
    known = {tensor.untyped_storage()._cdata for tensor in model.tensors}
    own = sum(t.nbytes for t in twin.tensors if t.untyped_storage()._cdata not in known)
    assert own and ACCOUNT.held - before == pytest.approx(model.nbytes + own, rel=0.01)
    del model, twin
    assert ACCOUNT.held == before


def test_a_transformers_twin_shares_its_weights():
    model = ImageModel(timm.create_model("test_vit"), "test_vit")
    known = {tensor.untyped_storage()._cdata for tensor in model.tensors}
    assert {tensor.untyped_storage()._cdata for tensor in prepare(model).tensors} <= known


def test_models_that_nobody_uses_make_room(bounded):
    bounded(None)
    cache, models = ModelCache(), {}
    cache._load = lambda name: models.setdefault(name, types.SimpleNamespace(nbytes=1))
    cache.get("a"), cache.get("b")
    assert cache.let_go() and cache.names() == ["b"]
    assert cache.let_go() and not cache.let_go()


def foreign(folder, **changes):
    """A copy of a demo network whose configuration says something else."""
    shutil.copytree(MODELS_DIR / "resnet", folder)
    config = json.loads((folder / "config.json").read_text())
    for place, values in changes.items():
        config.setdefault(place, {}).update(values)
    (folder / "config.json").write_text(
        json.dumps(config | {"num_classes": changes.get("model_args", {}).get("num_classes", 0)})
    )
    return f"local-dir:{folder}"


@pytest.mark.parametrize("changes", [
    {"model_args": {"num_classes": 30_000_000}, "pretrained_cfg": {"num_classes": 30_000_000}},
    {"pretrained_cfg": {"input_size": [3, 8000, 8000]}},
], ids=["classes", "pixels"])  # fmt: skip
def test_a_foreign_configuration_that_asks_for_gigabytes_is_refused_before_any_are_taken(
    tmp_path, bounded, monkeypatch, changes
):
    bounded(2**30)
    monkeypatch.setattr("lsd.models._filled", lambda location: pytest.fail("it is built"))
    with pytest.raises(MemoryLimitError, match=r"would take about .* GB of memory, and there are 1\.1 GB for it here"):
        load_model(foreign(tmp_path / "model", **changes), device="cpu")


def test_what_hangs_in_a_circle_is_no_obstacle(impatient):
    asked, circle = enforcing(10 * MB), []
    circle += [circle, torch.zeros(2 * MB)]
    asked.keep(circle[1:])
    del circle
    with asked.room(8 * MB, "It"):
        assert asked.held == 8 * MB

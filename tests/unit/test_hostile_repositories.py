"""Networks of strangers, downloaded by the real client from a Hub on this machine: a network, or one sentence."""

import asyncio
import socket
import time
from dataclasses import replace

import huggingface_hub
import pytest
import torch

from benchmarks.hostile.hub import COMMIT, serving
from benchmarks.hostile.repositories import repositories
from lsd import weights
from lsd.account import ACCOUNT
from lsd.errors import LSDError, ModelError
from lsd.memory import is_out_of_memory
from lsd.models import load_model
from lsd.ui.features.request import cost, default_wish, prepare
from lsd.ui.features.runs import advance
from lsd.ui.saliency.request import Wish, request_of
from lsd.ui.saliency.run import explain_all
from lsd.ui.shared import jobs
from lsd.ui.shared.examples import examples
from lsd.ui.shared.job import Progress
from lsd.ui.shared.jobs import follow, sentence, turn
from lsd.ui.shared.line import Line, Waiting

_CONNECT = socket.socket.connect
REPOSITORIES = repositories()
LIMITS = (None, 2**30)  # bytes of memory: as the library has it, and as a page
CASES = [
    (name.removeprefix("owner/"), limit) for name in REPOSITORIES for limit in LIMITS
    if limit or "classes-millions" not in name  # which takes gigabytes to refuse where memory is not asked for
]  # fmt: skip


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """A Hub that has them; what is downloaded is nobody else's."""
    monkeypatch.setattr(socket.socket, "connect", _CONNECT)
    monkeypatch.setattr(weights, "_silent_since", None)
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(tmp_path / "hub")}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    with serving(REPOSITORIES) as served:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield served


def load(name: str):
    return load_model(f"hf-hub:owner/{name}", device="cpu")


def test_an_honest_network_is_loaded_and_its_commit_known(hub):
    assert load("honest").identity.revision == COMMIT
    assert not any("authorization" in {key.lower() for key in headers} for *_, headers in hub.asked)


@pytest.mark.parametrize(("name", "limit"), CASES)
def test_a_strangers_network_is_loaded_or_refused_in_a_sentence(name, limit, monkeypatch):
    monkeypatch.setattr(ACCOUNT, "limit", limit)
    try:
        model = load(name)
        assert all(isinstance(text, str) for text in model.class_names) and len(model.class_names) == model.num_classes
        assert model.mean.isfinite().all() and (model.std > 0).all()
    except LSDError as error:
        assert "\n" not in sentence(error)


def test_an_input_of_terabytes_is_refused():
    """Resizing to it is not refused by the system, which kills the process instead."""
    with pytest.raises(LSDError, match="too large"):
        load("config-input-million")


@pytest.mark.parametrize("limit", LIMITS)
def test_a_network_is_not_built_deeper_than_its_weights(limit, monkeypatch):
    monkeypatch.setattr(ACCOUNT, "limit", limit)
    started = time.monotonic()
    with pytest.raises(ModelError, match="far more layers"):
        load("config-args-deep")
    assert not torch.nn.modules.module._global_parameter_registration_hooks
    assert time.monotonic() - started < 60  # four million blocks take hours


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut"])
def test_a_hub_that_fails_is_a_sentence_and_the_next_try_works(hub, fault, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own tries
    hub.fault = fault
    with pytest.raises(ModelError, match="not be downloaded"):
        load("honest")
    hub.fault = ""
    assert load("honest").num_classes == 10


def explaining(name):
    wish = Wish(models=(name,), method="gradient", check=False)
    return lambda: explain_all(request_of(wish, examples()["Coffee cup"], None))


def ascending(name):
    """As `FeaturesTab.make` does, as far as the first step."""

    def work():
        wish, models = replace(default_wish(), models=(name,), unit="class/3"), {}
        *_, session = prepare(wish, models)
        with turn(cost(session)):
            yield next(advance(session, models)).step

    return work


@pytest.mark.parametrize("work", [explaining, ascending])
def test_a_hub_that_drips_holds_nobody_up_but_who_asked_for_it(hub, monkeypatch, work):
    """And whoever asked has what he asked for once the Hub is well again."""
    monkeypatch.setattr(jobs, "LINE", Line(places=1, longest=4))
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    hub.fault, hub.delay, mine = "drips", 0.2, f"owner/{work.__name__}"
    hub.files[mine] = hub.files["owner/honest"]  # under a name that no other test has loaded

    async def last(of):
        news = [one async for one in follow(of) if not isinstance(one, Waiting | Progress | None)]
        return news[-1]

    async def both():
        waiting = asyncio.create_task(last(work(f"hf-hub:{mine}")))
        while not any(method == "GET" for method, *_ in hub.asked):
            await asyncio.sleep(0.02)
        other = await asyncio.wait_for(last(explaining("demo:resnet")), 60)
        assert not waiting.done()
        hub.fault = ""
        return other, await asyncio.wait_for(waiting, 60)

    other, own = asyncio.run(asyncio.wait_for(both(), 300))
    assert other.answers and (own == 1 if work is ascending else own.answers)


def test_what_was_downloaded_serves_while_the_hub_is_out_of_reach(hub, monkeypatch):
    load("honest")
    hub.fault = "503"
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert load("honest").num_classes == 10


def test_a_damaged_file_of_the_cache_is_fetched_again(hub):
    kept = weights.locate("hf-hub:owner/honest").weights
    content = bytearray(kept.read_bytes())
    content[20] ^= 0xFF
    kept.write_bytes(content)
    assert load("honest").identity.sha256 == kept.resolve().name
    kept.write_bytes(content)
    hub.fault = "503"
    with pytest.raises(ModelError, match="not be downloaded"):
        load("honest")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_memory_that_is_not_there_is_told_as_such(error):
    assert is_out_of_memory(error) and "not enough memory" in sentence(error)


def test_any_other_error_is_not_taken_for_it():
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))

"""Networks of strangers, downloaded by the real client from a Hub on this machine: a network, or one sentence."""

import socket
import time

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
from lsd.ui.shared.jobs import sentence

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

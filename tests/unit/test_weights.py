"""From a name to its files, and every way in which that fails: always one sentence."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from lsd import weights
from lsd.errors import ModelError
from lsd.models import load_model
from lsd.weights import HERE, HUB, NOWHERE, availability, canonical, local_models, locate, ready_models


@pytest.fixture(autouse=True)
def nothing_local(monkeypatch):
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setattr(weights, "_silent_since", None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch, model_folder):
    """A Hub of one's own: set what it answers; `hub.asked` holds what was downloaded."""
    fake = SimpleNamespace(
        asked=[], tokens=[], size=1000, error=None, offline=False, cached=False, folder=model_folder("hub")
    )

    def metadata(url, timeout=None, token=None):
        fake.url = url
        fake.tokens.append(token)
        if fake.error:
            raise fake.error
        return SimpleNamespace(size=fake.size, commit_hash="c0ffee")

    def download(repo, filename, revision=None, local_files_only=False, token=None):
        fake.tokens.append(token)
        fake.asked.append((repo, filename, revision, local_files_only))
        if (local_files_only and not fake.cached) or fake.offline:
            raise errors.LocalEntryNotFoundError("not in the cache")
        return str(fake.folder / filename)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return fake


def test_a_public_page_sends_no_secret(hub, monkeypatch):
    monkeypatch.setenv("LSD_PUBLIC", "1")
    monkeypatch.setenv("LSD_PUBLIC_MODELS", "hf-hub:owner/repo")
    locate("hf-hub:owner/repo")
    assert set(hub.tokens) == {False}


def hub_error(kind):
    return kind("401 Client Error", response=SimpleNamespace(headers={}, request=None, status_code=401))


def refusal(name, **settings):
    """The sentence with which `name` is refused."""
    with pytest.raises(ModelError) as caught:
        load_model(name, device="cpu", **settings)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[-1] in ".?", sentence
    return sentence


# Folders


def test_a_folder_loads_with_its_own_weights(model_folder):
    folder = model_folder()
    model = load_model(f"local-dir:{folder}", device="cpu")
    state = load_file(folder / "model.safetensors")
    assert model.num_classes == 10
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_folders_on_the_path_are_found_by_their_names(model_folder, monkeypatch, tmp_path):
    folder = model_folder("mine.v1")
    monkeypatch.setenv("LSD_MODEL_PATH", f"{tmp_path / 'nowhere'}:{tmp_path}")
    assert local_models() == {"mine.v1": folder}
    assert "mine.v1" in ready_models()
    location = locate(" mine.v1 ")
    assert (location.source, location.name, location.weights) == ("local", "mine.v1", folder / "model.safetensors")


def test_the_first_folder_on_the_path_wins(model_folder, monkeypatch, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    model_folder("m").rename(first / "m")
    model_folder("m").rename(second / "m")
    monkeypatch.setenv("LSD_MODEL_PATH", f"{first}:{second}")
    assert locate("m").config.parent == first / "m"


def test_a_folder_on_the_path_comes_before_the_hub(model_folder, monkeypatch, tmp_path, hub):
    model_folder("resnet50.a1_in1k")
    monkeypatch.setenv("LSD_MODEL_PATH", str(tmp_path))
    assert locate("resnet50.a1_in1k").source == "local" and not hub.asked


def test_demo_models_load_by_name(monkeypatch, model_folder, tmp_path):
    model_folder("toy")
    monkeypatch.setattr(weights, "MODELS_DIR", tmp_path)
    monkeypatch.setattr(weights, "demo_models", lambda: ["toy"])
    model = load_model("demo:toy", device="cpu")
    assert (model.name, model.identity.source) == ("demo:toy", "demo")
    assert "demo:toy" in refusal("demo:other")
    assert refusal("demo:../toy").startswith("There is no model demo:../toy")


def test_a_folder_without_a_configuration(tmp_path):
    assert "no config.json" in refusal(f"local-dir:{tmp_path}")
    assert "no config.json" in refusal(f"local-dir:{tmp_path / 'missing'}")


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '"x"', "{}", '{"architecture": 3}', "\ufeff", '{"architecture": null}']
)
def test_a_damaged_configuration(model_folder, text):
    folder = model_folder()
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(f"local-dir:{folder}")


def test_a_configuration_of_bytes_that_are_no_text(model_folder):
    folder = model_folder()
    (folder / "config.json").write_bytes(b"\xff\xfe\x00\x01")
    assert "config.json is damaged" in refusal(f"local-dir:{folder}")


def test_an_architecture_that_timm_lacks(model_folder):
    folder = model_folder()
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet51"}))
    assert f"is a “resnet51”, which this version of timm ({timm.__version__}) lacks" in refusal(f"local-dir:{folder}")


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_file_cut_short(model_folder, keep):
    folder = model_folder()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "damaged or do not fit" in refusal(f"local-dir:{folder}")


def test_weights_of_another_network(model_folder):
    folder, other = model_folder(), model_folder("other", "test_convnext")
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    assert "do not fit" in refusal(f"local-dir:{folder}")


def test_weights_of_another_shape(model_folder):
    folder = model_folder()
    state = load_file(folder / "model.safetensors")
    save_file({k: v[:1].clone() if v.ndim else v for k, v in state.items()}, folder / "model.safetensors")
    assert "do not fit" in refusal(f"local-dir:{folder}")


def pickled(folder, name="pytorch_model.bin"):
    state = load_file(folder / "model.safetensors")
    torch.save({k: v + 1 for k, v in state.items()}, folder / name)
    return state


def test_pickled_weights_are_refused_unless_asked_for(model_folder):
    folder = model_folder()
    state = pickled(folder)
    (folder / "model.safetensors").unlink()
    assert "no safetensors file" in refusal(f"local-dir:{folder}")
    model = load_model(f"local-dir:{folder}", device="cpu", allow_pickle=True)
    assert torch.equal(model.net.fc.bias, state["fc.bias"] + 1)
    assert locate(f"local-dir:{folder}", allow_pickle=True).weights.name == "pytorch_model.bin"


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_a_pickled_file_beside_safetensors_is_never_read(model_folder, allow_pickle, monkeypatch):
    folder = model_folder()
    state = pickled(folder)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickled file was opened"))
    model = load_model(f"local-dir:{folder}", device="cpu", allow_pickle=allow_pickle)
    assert torch.equal(model.net.fc.bias, state["fc.bias"])


def test_a_pickle_that_runs_code_does_not_run_it(model_folder, tmp_path):
    folder, trace = model_folder(), tmp_path / "trace"
    (folder / "model.safetensors").unlink()

    class Trap:
        def __reduce__(self):
            return (trace.write_text, ("caught",))

    torch.save({"fc.weight": Trap()}, folder / "pytorch_model.bin")
    refusal(f"local-dir:{folder}", allow_pickle=True)
    assert not trace.exists()


def test_too_large_a_file_is_refused(model_folder, monkeypatch):
    folder = model_folder()
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    assert "too large" in refusal(f"local-dir:{folder}") and "LSD_MAX_MODEL_BYTES" in refusal(f"local-dir:{folder}")


# Names


def test_a_misspelt_name_brings_suggestions():
    assert "Did you mean" in refusal("resnett50") and "resnet50" in refusal("resnett50")


def test_a_name_like_nothing_brings_what_is_ready(model_folder, monkeypatch, tmp_path):
    model_folder("mine")
    monkeypatch.setenv("LSD_MODEL_PATH", str(tmp_path))
    sentence = refusal("qqqqqqqq")
    assert "There is no model called “qqqqqqqq”" in sentence and "mine" in sentence and "Did you" not in sentence


@pytest.mark.parametrize("name", ["resnet50.nope", "resnet50.a1_in1k@main"])
def test_an_unknown_tag_brings_the_known_ones(name, hub):
    assert "resnet50.a1_in1k" in refusal(name) and not hub.asked


def test_a_network_without_weights(hub):
    name = next(n for n in timm.list_models("resnet*") if not timm.list_models(n + ".*", pretrained=True))
    assert "no pretrained weights" in refusal(name) or "no weights" in refusal(name)
    assert not hub.asked


# The Hub


def test_a_timm_name_is_its_repository_and_gets_its_tag(hub):
    location = locate("resnet50")
    assert location.name.startswith("resnet50.") and location.repo == f"timm/{location.name}"
    assert (location.source, location.revision) == ("hub", "c0ffee")
    assert "/resolve/main/model.safetensors" in hub.url
    assert hub.asked == [(location.repo, f, "c0ffee", False) for f in ("config.json", "model.safetensors")]


def test_of_a_repository_of_another_name_only_the_weights_are_taken(hub):
    """Its config.json tells of another network: of the CLIP tower with GELU, say, where the one with QuickGELU was asked for."""
    name = "vit_base_patch16_clip_quickgelu_224.openai"
    location = locate(name)
    assert (location.name, location.config, location.repo) == (name, None, "timm/vit_base_patch16_clip_224.openai")
    assert hub.asked == [(location.repo, "model.safetensors", "c0ffee", False)]
    assert weights.read_config(location)["architecture"] == "vit_base_patch16_clip_quickgelu_224"
    hub.cached = True
    assert availability(name).location.config is None


def test_of_two_networks_that_share_weights_the_one_that_was_asked_for_is_built(hub, monkeypatch, model_folder):
    hub.folder = model_folder("shared", "vit_tiny_patch16_224", 1000)
    monkeypatch.setattr(weights, "_timm_repo", lambda name: (name, "somebody/vit_tiny_patch16_224"))
    model = load_model("deit_tiny_patch16_224.fb_in1k", device="cpu")
    assert model.architecture == "deit_tiny_patch16_224" and model.spec.crop_pct == 0.9 and model.spec.height == 224
    assert torch.equal(model.net.cls_token, load_file(hub.folder / "model.safetensors")["cls_token"])


def test_a_repository_and_its_revision(hub):
    location = locate("hf-hub:owner/repo@v2")
    assert (location.name, location.repo, location.revision) == ("hf-hub:owner/repo@v2", "owner/repo", "c0ffee")
    assert "/owner/repo/resolve/v2/" in hub.url
    assert load_model("hf-hub:owner/repo", device="cpu").identity.revision == "c0ffee"


def test_a_gated_repository(hub):
    hub.error = hub_error(errors.GatedRepoError)
    assert "accept its terms" in refusal("hf-hub:owner/repo")


def test_a_missing_repository(hub):
    hub.error = hub_error(errors.RepositoryNotFoundError)
    assert "no public repository owner/repo" in refusal("hf-hub:owner/repo")


def test_a_missing_revision(hub):
    hub.error = hub_error(errors.RevisionNotFoundError)
    assert "owner/repo has no revision “v9”" in refusal("hf-hub:owner/repo@v9")


def test_a_repository_without_safetensors(hub):
    hub.error = hub_error(errors.RemoteEntryNotFoundError)
    assert "has no model.safetensors" in refusal("hf-hub:owner/repo")
    assert not hub.asked


@pytest.mark.parametrize("name", ["hf-hub:a b", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../x"])
def test_a_name_that_no_repository_can_have(name):
    assert "not the name of a repository" in refusal(name)


def test_too_large_a_repository_is_not_downloaded(hub):
    hub.size = weights.MAX_BYTES + 1
    assert "too large" in refusal("hf-hub:owner/repo") and not hub.asked


def test_a_download_that_breaks_off(hub, monkeypatch):
    hub.offline = True
    assert "could not be downloaded" in refusal("hf-hub:owner/repo")


@pytest.mark.parametrize(
    "error", [ConnectionError("no route"), errors.OfflineModeIsEnabled("offline"), RuntimeError("?")]
)
def test_offline_what_was_downloaded_before_still_serves(hub, error):
    hub.error, hub.cached = error, True
    location = locate("hf-hub:owner/repo")
    assert location.weights.is_file() and all(local for *_, local in hub.asked)


def test_offline_and_never_downloaded(hub, model_folder, monkeypatch, tmp_path):
    model_folder("mine")
    monkeypatch.setenv("LSD_MODEL_PATH", str(tmp_path))
    hub.error = ConnectionError("no route")
    sentence = refusal("resnet50")
    assert "out of reach" in sentence and "mine" in sentence


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_the_answer_is_quick_and_quiet(offline, tmp_path):
    """In a process of its own, where the Hub's client is as users have it, and every connection is refused."""
    script = (
        "import socket, time\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "import lsd.models, timm, huggingface_hub\n"
        "start = time.perf_counter()\n"
        "try: lsd.models.load_model('resnet50.a1_in1k')\n"
        "except lsd.errors.ModelError as error: print(round(time.perf_counter() - start, 2), error)\n"
    )
    environment = {"PATH": "", "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    seconds, _, sentence = done.stdout.strip().partition(" ")
    assert "out of reach" in sentence, done.stderr
    assert float(seconds) < 5 and time.perf_counter() - start < 60
    assert done.stderr == ""


# Whether a model can be had, without asking anybody


def test_what_is_on_this_machine_is_here(model_folder, monkeypatch, tmp_path, hub):
    folder = model_folder("mine")
    monkeypatch.setenv("LSD_MODEL_PATH", str(tmp_path))
    for name in ("mine", f"local-dir:{folder}", "demo:vit", "tf_efficientnet_lite1"):
        found = availability(name)
        assert found.place == HERE and found.can_load and found.location.weights.is_file(), name
    assert not hub.asked


def test_what_was_downloaded_before_is_here(hub):
    hub.cached = True
    assert availability("resnet50.a1_in1k").place == HERE and all(local for *_, local in hub.asked)


def test_what_is_on_the_hub_is_offered_while_the_hub_answers(hub, monkeypatch):
    assert availability("resnet50.a1_in1k").place == HUB and availability("resnet50.a1_in1k").can_load
    hub.error = ConnectionError("no route")
    refusal("resnet50.a1_in1k")
    silent = availability("resnet50.a1_in1k")
    assert silent.place == HUB and not silent.can_load and "out of reach" in silent.reason
    hub.error = None
    locate("resnet50.a1_in1k")
    assert availability("resnet50.a1_in1k").can_load


def test_an_answer_about_one_repository_is_no_silence(hub):
    hub.error = hub_error(errors.RepositoryNotFoundError)
    refusal("hf-hub:owner/repo")
    hub.error = httpx.HTTPStatusError("429", request=None, response=SimpleNamespace(status_code=429))
    refusal("resnet50.a1_in1k")
    assert availability("resnet50.a1_in1k").can_load
    hub.error = httpx.HTTPStatusError("503", request=None, response=SimpleNamespace(status_code=503))
    refusal("resnet50.a1_in1k")
    assert not availability("resnet50.a1_in1k").can_load
    hub.error = hub_error(errors.RepositoryNotFoundError)
    refusal("hf-hub:owner/repo")
    assert availability("resnet50.a1_in1k").can_load


def test_a_hub_that_falls_silent_during_a_download_is_out_of_reach_and_a_disk_is_not(hub, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    error = PermissionError(13, "Permission denied")
    assert "could not be downloaded (PermissionError); try again" in refusal("resnet50.a1_in1k")
    assert availability("resnet50.a1_in1k").can_load
    error = TimeoutError()
    assert "could not be downloaded (the Hugging Face Hub does not answer); try again" in refusal("resnet50.a1_in1k")
    assert not availability("resnet50.a1_in1k").can_load


def test_a_silence_is_forgotten(hub, monkeypatch):
    monkeypatch.setattr(weights, "_SILENCE", -1)
    hub.error = ConnectionError("no route")
    refusal("resnet50.a1_in1k")
    assert availability("resnet50.a1_in1k").can_load


def test_a_hub_that_is_switched_off_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not availability("hf-hub:owner/repo").can_load


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2_100.tflite_qat_in1k",
        "no_such_network",
        "demo:none",
        "local-dir:/nowhere",
        "",
        "local-dir:~nobody-of-that-name/a",
        f"local-dir:{'a' * 9000}",
        "local-dir:\0",
    ],
)
def test_what_nobody_publishes_is_nowhere(name):
    found = availability(name)
    assert found.place == NOWHERE and not found.can_load and found.reason


@pytest.mark.parametrize("pasted, name", [
    ("tv_resnet50", "resnet50.tv_in1k"), (" resnet50 ", "resnet50"), ("timm/resnet50.a1_in1k", "resnet50.a1_in1k"),
    ("https://huggingface.co/timm/resnet50.a1_in1k", "resnet50.a1_in1k"),
    ("https://huggingface.co/timm/resnet50.a1_in1k/tree/main", "resnet50.a1_in1k"),
    ("huggingface.co/timm/resnet50.a1_in1k?library=timm", "resnet50.a1_in1k"),
    ("https://huggingface.co/owner/net/tree/abc123", "hf-hub:owner/net@abc123"), ("https://hf.co/owner/net/", "hf-hub:owner/net"),
    ("owner/net", "hf-hub:owner/net"), ("owner/net@v1", "hf-hub:owner/net@v1"),
    ("hf_hub:timm/resnet50.a1_in1k", "resnet50.a1_in1k"),
    ("hf-hub:timm/resnet50.a1_in1k@abc", "hf-hub:timm/resnet50.a1_in1k@abc"),
    ("hf-hub:timm/no_such.net", "hf-hub:timm/no_such.net"),
    ("local_dir:a/b", "local-dir:a/b"), ("local-dir:a/b", "local-dir:a/b"), ("demo:vit", "demo:vit"), ("./a/b", "./a/b"), ("", ""),
    ("https://huggingface.co/datasets/a/b", "https://huggingface.co/datasets/a/b"), ("nothing", "nothing"), ("a/b/c", "a/b/c"),
])  # fmt: skip
def test_a_name_is_known_however_it_is_pasted(pasted, name):
    assert canonical(pasted) == name == canonical(name)


def test_every_name_that_timm_has_given_up_leads_to_its_successor():
    """209 with timm 1.0.31."""
    given_up = timm.models.get_deprecated_models()
    assert len(given_up) > 100
    assert all(
        timm.is_model(canonical(name).partition(".")[0]) and canonical(name) not in given_up for name in given_up
    )


def test_a_folder_keeps_a_name_that_timm_has_given_up(model_folder, monkeypatch):
    folder = model_folder()
    folder.rename(folder.parent / "tv_resnet50")
    monkeypatch.setenv("LSD_MODEL_PATH", str(folder.parent))
    assert canonical("tv_resnet50") == "tv_resnet50" and locate("tv_resnet50").source == "local"

"""A file of the Hub within a time: given up where nothing comes, and waited for as long as something does."""

import threading

import huggingface_hub
import pytest

from lsd import hub

PATH = "models--owner--repo/blobs"


@pytest.fixture
def client(monkeypatch, tmp_path):
    """The Hub's client, which ends when it is told to; what comes is written where it writes."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "BEGINNING", 0.2)
    monkeypatch.setattr(hub, "_GLANCE", 0.02)
    ended = threading.Event()

    def download(repo, filename, **settings):
        assert ended.wait(20)
        return str(tmp_path / repo / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    (tmp_path / PATH).mkdir(parents=True)
    yield ended
    ended.set()


def test_what_is_there_is_there_at_once(client, tmp_path):
    client.set()
    assert hub.download("owner/repo", "a", revision="b") == tmp_path / "owner/repo/a"


def test_where_nothing_comes_it_is_given_up(client):
    with pytest.raises(TimeoutError, match=r"Nothing of model\.safetensors has come for 0 seconds"):
        hub.download("owner/repo", "model.safetensors")


@pytest.mark.parametrize("silence, given_up", [(20, False), (0.2, True)])
def test_where_something_comes_it_is_waited_for_longer(client, tmp_path, monkeypatch, silence, given_up):
    """Whoever fetches it: it need not be this process."""
    monkeypatch.setattr(hub, "SILENCE", silence)
    looks, arriving = [], hub._arriving

    def look(blobs):
        looks.append(blobs)
        if len(looks) == 3:
            (tmp_path / PATH / "0ff.incomplete").write_bytes(b"something")
        if len(looks) == 40 and not given_up:
            client.set()
        return arriving(blobs)

    monkeypatch.setattr(hub, "_arriving", look)
    if given_up:
        with pytest.raises(TimeoutError):
            hub.download("owner/repo", "a")
    else:
        assert hub.download("owner/repo", "a") and len(looks) >= 40


def test_what_the_client_raises_is_raised(monkeypatch):
    def fail(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(OSError, match="no room"):
        hub.download("owner/repo", "a")


def test_a_client_that_waited_in_vain_and_a_download_that_was_given_up_have_the_same_reason():
    class ReadTimeout(Exception):
        """As the clients of HTTP have it."""

    assert hub.reason(ReadTimeout()) == hub.reason(TimeoutError()) == "the Hugging Face Hub does not answer"
    assert hub.reason(PermissionError()) == "PermissionError"

"""What visitors of a public page may name."""

import pytest

from lsd import public, weights
from lsd.curated import CURATED
from lsd.errors import LSDError, ModelError
from lsd.evaluation.labelled import available_sets, open_set
from lsd.models import get_model, load_model, ready_models

FOREIGN = (
    "hf-hub:somebody/network", "somebody/network", "https://huggingface.co/somebody/network", "local-dir:/etc", " local-dir:/etc",
    "\u00a0local-dir:/etc", "local_dir:/etc", "resnet18.a1_in1k_nobody_listed", "vit_giant_patch14_224",
)  # fmt: skip


@pytest.fixture(params=["LSD_PUBLIC", "SPACE_ID"])
def visited(request, monkeypatch):
    """A page that strangers use."""
    monkeypatch.delenv("LSD_MODEL_PATH", raising=False)
    monkeypatch.setenv(request.param, "1")


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("load", [load_model, get_model, weights.locate])
def test_no_spelling_and_no_door_leads_past_the_list(visited, name, load):
    with pytest.raises(ModelError, match="loads the models of its list"):
        load(name)
    assert "loads the models of its list" in weights.availability(name).reason


def test_what_is_offered_can_be_had(visited):
    for name in ready_models():
        assert weights.availability(name).can_load
    assert all(public.model_refusal(network.name, tuple) == "" for network in CURATED)
    assert load_model("demo:vit").name == "demo:vit"
    assert load_model("  demo:vit ").num_classes


def test_the_list_is_extended_by_names_and_wildcards(visited, monkeypatch):
    monkeypatch.setenv("LSD_PUBLIC_MODELS", "hf-hub:me/*, resnet26.bt_in1k")
    assert public.model_refusal("hf-hub:me/mine", tuple) == public.model_refusal("resnet26.bt_in1k", tuple) == ""
    assert public.model_refusal("hf-hub:you/mine", tuple) and public.model_refusal("resnet26d.bt_in1k", tuple)


def test_sets_are_those_that_come_with_the_page(visited, monkeypatch, tmp_path):
    assert len(open_set(available_sets()[0], limit=4))
    for source in ("hf:somebody/pictures", str(tmp_path), f"hf:{tmp_path}", "/etc", "../.."):
        with pytest.raises(LSDError, match="opens the sets of its list"):
            open_set(source)
    monkeypatch.setenv("LSD_PUBLIC_SETS", "hf:me/*")
    assert public.set_refusal("hf:me/mine", tuple) == ""


def test_no_secret_goes_along(visited):
    assert public.hub_token() is False


def test_whoever_runs_it_for_himself_may_name_anything(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    for value in (None, "0", ""):
        monkeypatch.delenv("LSD_PUBLIC", raising=False) if value is None else monkeypatch.setenv("LSD_PUBLIC", value)
        assert not public.is_public() and public.hub_token() is None
        assert public.model_refusal("local-dir:/etc", tuple) == public.set_refusal("/etc", tuple) == ""
    monkeypatch.setenv("SPACE_ID", "me/lsd")
    monkeypatch.setenv("LSD_PUBLIC", "0")
    assert not public.is_public()

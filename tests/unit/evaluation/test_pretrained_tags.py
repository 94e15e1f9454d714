"""What is said of timm's pretrained networks, told from their configurations."""

import json
from collections import Counter
from pathlib import Path

import pytest
import timm

from lsd.evaluation import pretrained_tags
from lsd.evaluation.__main__ import main
from lsd.evaluation.pretrained_tags import NOBODY, NUMBER, REFUSED, TABLE, WRONG, Tag, check

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"


@pytest.fixture(scope="module")
def tags():
    return [check(name) for name in timm.list_pretrained()]


def test_nothing_wrong_is_said_of_any_pretrained_network(tags):
    assert len(tags) > 1500 and not [tag for tag in tags if tag.head == WRONG]
    silent = {name for name in timm.list_pretrained() if not timm.get_pretrained_cfg(name).hf_hub_id}
    refused = {tag.name: tag.why for tag in tags if tag.head == REFUSED}
    assert refused.keys() == silent and all("not on the Hugging Face Hub in safetensors" in w for w in refused.values())


def test_every_head_that_nobody_names_is_a_known_exception(tags):
    """Another width that timm has no table for would be an embedding that is taken for classes, or a data set to be named."""
    assert Counter(tag.width for tag in tags if tag.names == NOBODY).keys() == {19168, 115217}


def test_the_page_says_what_the_code_says(tags):
    if f"(timm {timm.__version__})" not in PAGE.read_text("utf-8"):
        pytest.skip("the page tells of another version of timm")
    assert "\n".join(pretrained_tags.summary(tags)) in PAGE.read_text("utf-8")


@pytest.mark.parametrize("name, expected", [
    ("resnet50.a1_in1k", ("classes", TABLE)), ("convnext_nano.in12k", ("classes", TABLE)),
    ("focalnet_large_fl3.ms_in22k", ("classes", TABLE)), ("resmlp_12_224.fb_dino", ("classes", NUMBER)),
    ("vit_base_patch16_224.bamboo", ("classes", NOBODY)), ("vit_base_patch16_224.mae", ("embedding", "")),
    ("vit_base_patch16_clip_224.openai", ("embedding", "")), ("vit_base_patch16_clip_224.openai_ft_in1k", ("classes", TABLE)),
])  # fmt: skip
def test_what_the_outputs_are_and_who_named_them(name, expected):
    tag = check(name)
    assert (tag.head, tag.names) == expected


@pytest.mark.parametrize("change, head, why", [
    ({"input_size": (4, 224, 224)}, REFUSED, "takes pictures of 4 channels"),
    ({"interpolation": "random"}, REFUSED, "interpolation 'random' is unknown"),
    ({"crop_pct": -1.0}, REFUSED, "crop_pct is -1.0"),
    ({"std": (0.2, 0.0, 0.2)}, REFUSED, "leaves no numbers of a picture"),
    ({"mean": (0.5, float("nan"), 0.5)}, REFUSED, "leaves no numbers of a picture"),
    ({"num_classes": 11821}, WRONG, "its tag says in1k, and it has 11821 classes"),
])  # fmt: skip
def test_what_cannot_be_is_told(change, head, why):
    found = check("resnet50.a1_in1k", timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict() | change)
    assert found.head == head and why in found.why


def test_the_data_set_of_a_head_is_the_last_that_the_tag_names():
    told = {name: pretrained_tags._data_set(name) for name in (
        "beitv2_base_patch16_224.in1k_ft_in22k_in1k", "vit_base_patch16_224_miil.in21k", "convnext_base.clip_laion2b",
        "mvitv2_base_cls.fb_inw21k", "tf_efficientnet_b5.ns_jft_in1k",
    )}  # fmt: skip
    assert [*told.values()] == ["in1k", "in21k", None, "inw21k", "in1k"]


def test_the_command_writes_what_it_says(tmp_path, capsys):
    assert main(["tags", "resnet18.*", "vit_base_patch16_clip_quickgelu_224.openai", "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "tags.json").read_text("utf-8"))
    assert Tag(**rows[-1]).repo == "timm/vit_base_patch16_clip_224.openai" and rows[0]["head"] == "classes"
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert text == capsys.readouterr().out and "- 1 whose weights lie in a repository of another name" in text
    assert main(["tags", "nowhere*", "--output", str(tmp_path)]) == 2

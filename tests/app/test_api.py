"""The endpoints as programs see them, through `gradio_client`."""

import asyncio
import base64
import io
import json
import random
import re
import sys
from dataclasses import replace

import httpx
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from benchmarks.hostile import tools
from lsd.demo import CLASS_NAMES, MODELS_DIR, render
from lsd.features.ascent import ascend
from lsd.features.recipes import DEFAULT, find_recipe
from lsd.images import crop_box, open_image, prepare
from lsd.models import get_model
from lsd.packages import PACKAGES
from lsd.reasons.explain import channel, find_reasons, flips, switched, together, try_reasons
from lsd.reasons.region import places_in
from lsd.saliency.explain import TargetSpec, explain, to_input
from lsd.saliency.heads import heads_of
from lsd.saliency.heads import sheet as heads_sheet
from lsd.saliency.methods import attribute
from lsd.saliency.steadiness import steadiness_of_explanation
from lsd.saliency.targets import Target
from lsd.ui.shared import unit_pictures
from lsd.ui.shared.examples import examples
from lsd.view import WHOLE, View


@pytest.fixture(scope="module")
def client(page_url):
    return Client(page_url, verbose=False)


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(render(5, 2**31 + 5).image)


def saliency(client, **request):
    """The answer, the map's values, and the size of the picture with its map."""
    answer, overlay, values = client.predict(**request, api_name="/saliency")
    return answer, np.load(values), Image.open(overlay).size


def in_base64(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_predict_names_what_is_in_the_picture(client, picture):
    answer = client.predict(image=in_base64(picture), model="demo:resnet", top=3, api_name="/predict")
    assert answer["top"][0]["name"] == CLASS_NAMES[5]
    assert len(answer["top"]) == 3
    assert answer["top"][0]["probability"] > 0.5


def test_a_network_is_told_what_it_does_not_say(client, picture):
    request = {"image": in_base64(picture), "model": "demo:resnet"}
    told = client.predict(**request, outputs="sigmoid", api_name="/predict")["top"]
    plain = client.predict(**request, api_name="/predict")
    assert sum(one["probability"] for one in told) > 1 > sum(one["probability"] for one in plain["top"])
    assert told[0]["index"] == plain["top"][0]["index"] and plain["names_assumed"] is False
    said = {"outputs": "sigmoid", "layouts": {"layer2": "nhwc"}}
    grad_cam = {"method": "grad_cam", "settings": {"layer": "layer2"}}
    answers = [saliency(client, **request, **grad_cam, **s) for s in (said, {})]
    assert [answer["target"].get("outputs") for answer, *_ in answers] == ["sigmoid", None]
    assert answers[0][1].shape != answers[1][1].shape
    neuron = {"model": "demo:resnet", "unit": "layer2/neuron/1/30/2", "recipe": "none", "steps": 1}
    assert client.predict(**neuron, layouts={"layer2": "nhwc"}, api_name="/feature")[0]["unit"] == neuron["unit"]
    with pytest.raises(AppError, match="layer2"):
        client.predict(**neuron, api_name="/feature")  # as the network lays it out there is no row 30


def test_without_a_model_an_imagenet_network_answers(client):
    answer = client.predict(image="example:Coffee cup", api_name="/predict")
    assert answer["model"] == next(iter(PACKAGES)) and answer["top"][0]["name"] == "espresso"


def test_saliency_returns_the_values_of_the_library(client, picture):
    answer, values, size = saliency(
        client, image="data:image/png;base64," + in_base64(picture), model="demo:vit", method="integrated_gradients",
        target=CLASS_NAMES[2], against="top1", settings={"steps": 4},
    )  # fmt: skip
    model = get_model("demo:vit")
    images = model.mean.new_tensor(prepare(picture, model.spec))[None]
    target = Target(2, "contrast", answer["top"][0]["index"])
    expected = attribute("integrated_gradients", model, images, target, steps=4).values.numpy()
    np.testing.assert_allclose(values, expected, atol=1e-6 * np.abs(expected).max())
    assert answer["target"] == {"kind": "contrast", "index": 2, "against": answer["top"][0]["index"]}
    assert size == picture.size


def test_a_model_can_be_shown_other_than_the_evaluations_crop(client, picture):
    wide, model = picture.resize((200, 96)), get_model("demo:resnet")
    request = {"image": in_base64(wide), "model": "demo:resnet", "method": "gradient"}
    for view in (*WHOLE, "60,8,80"):
        answer, values, size = saliency(client, **request, view=view)
        expected = explain(model, wide, TargetSpec(), "gradient", view=View.parse(view))
        assert answer["view"] == view and answer["crop_box"] == list(expected.box)
        assert np.array_equal(values, expected.attribution.values.numpy()) and size == wide.size
    assert saliency(client, **request)[0]["view"] == WHOLE[0]


def test_a_program_can_ask_how_steady_a_map_is(client, picture):
    request = {"image": in_base64(picture), "model": "demo:resnet", "method": "gradient"}
    model = get_model("demo:resnet")
    found = steadiness_of_explanation(model, picture, explain(model, picture, TargetSpec(), "gradient"), {})
    assert saliency(client, **request, steady=True)[0]["steadiness"] == pytest.approx(found.to_dict(), abs=1e-6)
    assert saliency(client, **request)[0]["steadiness"] is None


def test_the_heads_of_a_transformer_are_those_of_the_library(client, picture, small_vit):
    request = {"image": in_base64(picture), "model": small_vit, "place": "2,3", "layer": "blocks.1.attn"}
    answer, drawn, weights = client.predict(**request, view="squashed", api_name="/attention")
    found = heads_of(get_model(small_vit), picture, "blocks.1.attn", (2, 3), View("squashed"))
    assert np.array_equal(np.load(weights), found.weights.numpy())
    assert answer == {"names_assumed": answer["names_assumed"], **json.loads(json.dumps(found.to_dict()))}
    assert Image.open(drawn).size == heads_sheet(picture, found).size
    for changes, sentence in (
        ({"model": "demo:resnet"}, "it has none"), ({"place": "2"}, "ROW,COLUMN"), ({"place": "99,0"}, "none at 99, 0"),
        ({"layer": "blocks.9"}, "no attention layer"),
    ):  # fmt: skip
        with pytest.raises(AppError, match=sentence):
            client.predict(**request | changes, api_name="/attention")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": "not base64 !"}, "not valid base64"),
        ({"image": base64.b64encode(b"<svg/>").decode()}, "not a PNG"),
        ({"image": "example:nothing"}, "no example"),
        ({"model": "demo:nothing"}, "no model"),
        ({"model": "resnet999"}, "no model called"),
        ({"method": "magic"}, "no method"),
        ({"target": "99"}, "out of range"),
        ({"settings": {"samples": 3}}, "no setting"),
        ({"method": "smoothgrad", "settings": {"batch_size": 256}}, "batch_size is at most 32"),
        ({"method": "expected_gradients", "settings": {"photos": "/"}}, "for the command line and the library"),
        ({"outputs": "tanh"}, "are classes, sigmoid or an embedding"),
        ({"layouts": {"layer9": "nchw"}}, "has no layer"),
        ({"layouts": {"layer1": "rows"}}, "no layout"),
        ({"layouts": {"layer1": 3}}, "a text for each layer"),
        ({"view": "whole"}, "is no view"),
        ({"group": "dog"}, "are not ImageNet's"),
        ({"group": "cat", "model": "tf_efficientnet_lite0.in1k"}, "means several groups of classes"),
        ({"group": "dog", "target": "3"}, "group asks for no class"),
        ({"within": "dog", "against": "3"}, "against and within are two questions"),
        ({"classes": 6}, "Two to 5 classes"),
        ({"both_ways": True}, "between two pictures"),
        ({"view": "0,0,9999"}, "reaches beyond the picture"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(client, picture, changes, sentence):
    request = {"image": in_base64(picture), "model": "demo:resnet"} | changes
    with pytest.raises(AppError, match=sentence) as raised:
        client.predict(**request, api_name="/saliency")
    assert "Traceback" not in str(raised.value)
    assert str(raised.value).count("\n") == 0


def test_a_feature_is_the_picture_of_the_library(client):
    answer, file = client.predict(model="demo:resnet", unit="class/striped star", steps=6, seed=1, api_name="/feature")
    (picture,) = (
        s.finished[0]
        for s in ascend(get_model("demo:resnet"), ["class/13"], replace(find_recipe(DEFAULT), steps=6), [1])
        if s.finished
    )
    np.testing.assert_array_equal(np.asarray(Image.open(file)), picture.pixels)
    assert (answer["unit"], answer["title"], answer["status"]) == ("class/13", "striped star", "ok")
    assert answer["score"] == pytest.approx(picture.score)
    assert len(answer["top"]) == 5


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"unit": "class/9999"}, "out of range"),
        ({"unit": "nonsense"}, "is not a unit"),
        ({"recipe": "magic"}, "no recipe"),
        ({"steps": 100_000}, "between 1 and 512"),
        ({"model": "demo:nothing"}, "no model"),
    ],
)
def test_a_feature_that_cannot_be_made_is_one_sentence(client, request_, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(**request_, api_name="/feature")


def test_reasons_are_those_of_the_library(client):
    answer, file = client.predict(image="example:plain circle", model="demo:resnet", api_name="/reasons")
    model = get_model("demo:resnet")
    image = to_input(model, open_image(examples()["plain circle"]))
    found = find_reasons(model, image)
    tried = try_reasons(model, image, found)
    for part in ("groups", "channels"):
        told, own = answer[part], getattr(found, part)
        assert [one["unit"] for one in told] == [one.unit for one in own]
        assert [one["share"] for one in told] == pytest.approx([one.share for one in own], rel=1e-4)
        assert [one["alone"]["score"] for one in told] == pytest.approx(
            [t.score for t in getattr(tried, part)], rel=1e-4
        )
    assert answer["target"] == found.target.to_dict() and answer["layer"] == found.layer
    assert answer["flips"]["groups"] == flips(tried.groups_so_far)
    assert answer["sentence"].startswith("plain circle rather than plain square: group 1 (")
    assert all(one["share"] < 0 for one in answer["against"])
    assert Image.open(file).width > 1000


def test_reasons_of_another_class_and_layer_with_pictures(client, monkeypatch):
    monkeypatch.setattr(unit_pictures.draw, "__defaults__", (replace(unit_pictures.OF_UNITS, steps=2),))
    request = {"image": "example:plain circle", "model": "demo:resnet", "target": "plain star", "against": "3"}
    answer, file = client.predict(**request, layer="layer3", fill="mean", api_name="/reasons")
    assert answer["decision"] == "plain star rather than checkered circle" and answer["fill"] == "mean"
    plain = Image.open(file).convert("RGB")
    drawn, file = client.predict(**request, layer="layer3", fill="mean", draw=True, api_name="/reasons")
    assert drawn["groups"] == answer["groups"]
    assert drawn["channels"] == answer["channels"]
    assert Image.open(file).convert("RGB").tobytes() != plain.tobytes()  # which had no picture of any unit


@pytest.mark.parametrize("region", [None, (0.0, 0.0, 1.0, 0.5)])
def test_reasons_are_switched_off_together(client, region):
    request = {"image": "example:plain circle", "model": "demo:resnet", "off": ["g1", "3", "g1"]}
    answer, _ = client.predict(**request, region=list(region) if region else None, api_name="/reasons")
    model = get_model("demo:resnet")
    picture = open_image(examples()["plain circle"])
    image = to_input(model, picture)
    found = find_reasons(model, image)
    gone = together([found.groups[0].off, channel(found.shares, 3).off])
    layer, box = found.shares.layer, crop_box(picture.size, model.spec)
    where = places_in(layer, box, picture.size, region) if region else None
    (trial,) = switched(model, image, found, [gone], region=where)
    told = answer["switched"]
    assert told["off"] == ["3", "g1"] and told["score"] == pytest.approx(trial.score, rel=1e-4)
    assert (told["index"], told["changed"]) == (trial.first, trial.changed)
    assert 0 <= told["at_random"] <= told["draws"] > 0
    assert told["score"] < answer["score"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"off": ["g9"]}, "“g9” is nothing that can be switched off in layer3"),
        ({"off": ["100000"]}, "“100000” is nothing that can be switched off"),
        ({"off": [str(i) for i in range(61)]}, "At most 60 reasons"),
        ({"region": [0, 0, 1, 1]}, "name in off what is"),
        ({"off": ["g1"], "region": [0, 0, 2, 1]}, "left, top, right and bottom"),
        ({"off": ["g1"], "region": [0.5, 0, 1]}, "left, top, right and bottom"),
        ({"off": ["g1"], "region": [0.4, 0.4, 0.401, 0.401]}, "draw a larger one"),
        ({"image": "example:nothing"}, "no example"),
        ({"target": "99"}, "out of range"),
        ({"against": "zebra"}, "No class of this model"),
        ({"layer": "nowhere"}, "has no layer"),
        ({"fill": "half"}, "zero or mean"),
        ({"outputs": "embedding"}, "no classes"),
    ],
)
def test_reasons_that_cannot_be_found_are_one_sentence(client, changes, sentence):
    with pytest.raises(AppError, match=sentence) as raised:
        client.predict(**{"image": "example:plain circle", "model": "demo:resnet"} | changes, api_name="/reasons")
    assert str(raised.value).count("\n") == 0


def test_only_these_endpoints_are_offered(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/predict",
        "/saliency",
        "/attention",
        "/feature",
        "/reasons",
    }


def posted(page_url: str, name: str, data: list) -> list:
    """What a caller without a client gets: the last news of a list of values in the arguments' order."""
    call = httpx.post(f"{page_url}gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    lines = httpx.get(f"{page_url}gradio_api/call/{name}/{call}", timeout=300).text.splitlines()
    *_, event, told = (line.partition(": ")[2] for line in lines if line)
    return [event, json.loads(told)]


def without_times(answer) -> str:
    return re.sub(r'"(path|url|seconds)": [^,}]*', "", json.dumps(answer, sort_keys=True))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("predict", ["example:plain circle", "demo:resnet"]),
        ("saliency", ["example:plain circle", "demo:resnet", "gradient"]),
        ("attention", ["example:plain circle", "a transformer"]),
        ("feature", ["demo:resnet", "class/0", "none", 1]),
        ("reasons", ["example:plain circle", "demo:resnet"]),
    ],
)
def test_who_sends_a_bare_list_may_leave_out_the_last_arguments(page_url, client, small_vit, name, given):
    given = [small_vit if one == "a transformer" else one for one in given]
    known = client.view_api(return_format="dict")["named_endpoints"][f"/{name}"]["parameters"]
    all_of_them = [*given, *(one["parameter_default"] for one in known[len(given) :])]
    event, expected = posted(page_url, name, all_of_them)
    assert event == "complete" and expected[0]["model"] in given
    for count in range(len(given), len(known)):
        event, answer = posted(page_url, name, all_of_them[:count])
        assert event == "complete" and without_times(answer) == without_times(expected)
    needed = [one["parameter_name"] for one in known if not one["parameter_has_default"]]
    if needed:
        event, answer = posted(page_url, name, [])
        assert event == "error" and f"{' and '.join(needed)} must be given" in json.dumps(answer)
    event, answer = posted(page_url, name, [*all_of_them, "one more"])
    assert event == "error" and "fewer" in json.dumps(answer)


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0"])
def test_a_public_space_opens_no_folder_of_the_machine(client, picture, monkeypatch, blank):
    monkeypatch.setenv("SPACE_ID", "somebody/lsd")
    with pytest.raises(AppError, match="loads the models of its list"):
        client.predict(image=in_base64(picture), model=f"{blank}local-dir:{MODELS_DIR / 'vit'}", api_name="/predict")


def test_likeness_to_another_picture(client):
    answer, *_ = saliency(
        client, image="example:Coffee cup", model="demo:vit", method="gradient", like="example:Coffee cup"
    )
    assert answer["target"]["kind"] == "similarity" and answer["score"] == pytest.approx(1, abs=1e-5)  # itself


def test_likeness_both_ways(client):
    both, values, _ = saliency(
        client,
        image="example:Coffee cup",
        model="demo:vit",
        method="gradient",
        like="example:Chelsea the cat",
        both_ways=True,
    )
    turned, back, _ = saliency(
        client, image="example:Chelsea the cat", model="demo:vit", method="gradient", like="example:Coffee cup"
    )
    assert values.shape[0] == len(both["maps"]) == 2 and np.array_equal(values[1:], back)
    assert both["maps"][1]["crop_box"] == turned["crop_box"] and both["maps"][0]["score"] == both["score"]


def test_the_first_classes_in_one_call(client, picture):
    request = {"image": in_base64(picture), "model": "demo:resnet", "method": "gradient"}
    answer, values, size = saliency(client, **request, classes=3)
    assert [one["target"]["index"] for one in answer["maps"]] == [one["index"] for one in answer["top"][:3]]
    for one, own in zip(answer["maps"], values, strict=True):
        alone, expected, _ = saliency(client, **request, target=str(one["target"]["index"]))
        assert np.array_equal(own[None], expected) and one["score"] == alone["score"] and len(alone["maps"]) == 1
    assert size > picture.size  # the sheet of all of them


@pytest.mark.parametrize("question", [{"classes": 3}, {"like": "example:Chelsea the cat", "both_ways": True}])
def test_of_several_maps_each_has_its_own_steadiness(client, question):
    request = {"image": "example:Coffee cup", "model": "demo:resnet", "method": "gradient", "steady": True} | question
    answer, *_ = saliency(client, **request)
    each = [one["steadiness"] for one in answer["maps"]]
    assert len({found["value"] for found in each}) == len(each) > 1 and answer["steadiness"] == each[0]
    if "like" in question:
        turned = {"image": question["like"], "like": request["image"], "both_ways": False}
        assert saliency(client, **request | turned)[0]["steadiness"] == pytest.approx(each[1], abs=1e-6)
    else:
        last = {"classes": 0, "target": str(answer["maps"][2]["target"]["index"])}
        assert saliency(client, **request | last)[0]["steadiness"] == pytest.approx(each[2], abs=1e-6)


def test_a_group_and_a_class_within_it(client):
    request = {"image": "example:Chelsea the cat", "method": "gradient"}
    group, *_ = saliency(client, **request, group="true cat")
    within, *_ = saliency(client, **request, within="true cat", target="tabby")
    assert group["target"]["kind"] == "group" and len(group["target"]["members"]) == 7 and group["score"] > 2
    assert within["target"]["kind"] == "within" and within["target"]["index"] == 281


def test_hostile_calls_of_tools_over_mcp_are_answered_and_the_next_honest_one_works(page_url, tmp_path, caplog):
    """A sample of what `benchmarks.hostile` sends: wrong types, huge texts, deep JSON, unknown tools, pictures that are none."""
    secret = tmp_path / "secret.txt"
    secret.write_text(told := "nobody is offered this")
    opened = []
    sys.addaudithook(lambda event, of: opened.append(of[0]) if event == "open" and str(of[0]) == str(secret) else None)
    sent = list(tools.messages(str(secret), f"{page_url}config"))
    with httpx.Client(base_url=page_url.rstrip("/"), timeout=60) as client:
        for message in [
            *random.Random(0).sample(sent, 20),
            *(m for m in sent if "100,000 levels" in m.what or "no message" in m.what or r"\ud800" in str(m.body)),
            *(m for m in sent if m.what.startswith("saliency: settings") and b"gradio.FileData" in m.body),
        ]:
            answer = client.post(tools.PATH, content=message.body, headers=tools.HEADERS)
            assert answer.status_code < 500 and told not in answer.text, message.what
            assert "Traceback" not in answer.text, message.what
        honest = client.post(tools.PATH, content=tools.call("predict", tools.HONEST["predict"]), headers=tools.HEADERS)
    assert '"isError":false' in honest.text and "demo:resnet" in honest.text
    assert not opened, "a file of this machine was read"
    assert not [record for record in caplog.records if record.exc_info]


def test_an_mcp_client_gets_pictures_as_pictures(page_url):
    """Through the reference client of the protocol."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def asked():
        async with (
            streamablehttp_client(f"{page_url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            names = ("saliency", "feature", "reasons")
            explain_, make, why = (next(t for name, t in tools.items() if name.endswith(n)) for n in names)
            image = {"image": "example:Coffee cup", "model": "demo:vit", "method": "gradient"}
            return (
                tools,
                await session.call_tool(explain_.name, image),
                await session.call_tool(make.name, {"model": "demo:resnet", "unit": "class/3", "steps": 4}),
                await session.call_tool(why.name, {"image": "example:plain circle", "model": "demo:resnet"}),
            )

    tools, explained, made, reasoned = asyncio.run(asked())
    assert len(tools) == 5 and "any timm name" in str(tools["predict"].inputSchema)
    for result in (explained, made, reasoned):
        assert not result.isError
        (picture,) = (c for c in result.content if c.type == "image")
        assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size[0] > 32
        texts = [c.text for c in result.content if c.type == "text"]
        assert "demo:" in texts[0] and sum(map(len, texts)) < 20_000

"""What no control of the page sends is refused in a sentence, at every event, and leaves no error in the log."""

import json
import random
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from gradio.components.api_component import Api
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.hostile.page import Visitor, file_data
from benchmarks.hostile.requests import requests
from benchmarks.hostile.values import NESTED, values
from lsd.errors import LSDError
from lsd.ui.shared import jobs, sentences
from lsd.ui.shared.address import told
from lsd.ui.shared.guard import RefusedError, check, completed


@pytest.fixture(scope="module")
def visitor(page_url):
    return Visitor(page_url.rstrip("/"))


@pytest.fixture
def unexpected(monkeypatch, capsys):
    """What nobody has made a sentence of: errors that the page logs, and tracebacks that Gradio prints."""
    logged = []
    monkeypatch.setattr(sentences.log, "error", lambda *words, **more: logged.append((words, more)))
    return lambda: (logged, capsys.readouterr().err.count("Traceback"))


def test_what_a_program_left_out_is_added_and_an_event_of_the_page_is_left_alone():
    def called(picture, model, steps=3):
        pass

    def followed(event: gr.EventData):
        pass

    arguments = [Api(None, None, None, None) for _ in range(3)]
    assert completed(SimpleNamespace(inputs=arguments, fn=called), ["a", "b"]) == ["a", "b", 3]
    with pytest.raises(RefusedError, match="model must be given"):
        completed(SimpleNamespace(inputs=arguments, fn=called), ["a"])
    assert completed(SimpleNamespace(inputs=[], fn=followed), []) == []


CONTROLS = {
    "checkbox": gr.Checkbox(True), "slider": gr.Slider(0, 10, 5), "number": gr.Number(1), "radio": gr.Radio(["a"], value="a"),
    "one": gr.Dropdown(["a"], value="a"), "any": gr.Dropdown(["a"], allow_custom_value=True),
    "several": gr.Dropdown(["a"], multiselect=True, max_choices=2), "text": gr.Textbox(max_length=3), "picture": gr.Image(),
}  # fmt: skip
GOOD = {
    "checkbox": False, "slider": 3, "number": None, "radio": "a", "one": "a", "any": None, "several": ["a", "b"], "text": "abc",
    "picture": file_data("x"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkbox", None), ("checkbox", 1), ("slider", None), ("slider", "3"), ("slider", float("nan")), ("number", True),
        ("number", float("inf")), ("number", 10**400), ("radio", None), ("one", None), ("one", ["a"]), ("any", {}), ("any", [1]),
        ("any", "x" * 10_001), ("several", "a"), ("several", [["a"]]), ("several", ["a"] * 3), ("text", "abcd"), ("text", 3),
        ("text", "\ud800"), ("text", NESTED), ("picture", "x"), ("picture", {"path": 3}), ("picture", {"path": "x"}),
        ("picture", {"path": "x", "meta": {"_type": "other"}}),
        ("picture", file_data("http://example.com/x.png")), ("text", [file_data("https://example.com/x.png")]),
    ],
)  # fmt: skip
def test_a_value_that_the_control_cannot_have_is_refused(name, value):
    check(list(CONTROLS.values()), list(GOOD.values()))
    with pytest.raises(RefusedError, match="cannot have"):
        check(list(CONTROLS.values()), list((GOOD | {name: value}).values()))


@pytest.mark.parametrize("values", [[], [*GOOD.values(), 1]])
def test_other_than_a_value_for_each_control_is_refused(values):
    with pytest.raises(RefusedError, match="more values than controls, or fewer"):
        check(list(CONTROLS.values()), values)


def test_what_a_browser_tells_is_a_dictionary_or_nothing():
    assert told(SimpleNamespace(_data={"seed": 1})) == {"seed": 1}
    assert told(SimpleNamespace(_data=["seed"])) == told(SimpleNamespace(_data=None)) == {}


def test_no_event_has_an_error_that_nobody_expects(visitor, unexpected, tmp_path):
    """Each quick event with a hostile value in each of its places: a new control or event is covered by itself."""
    secret = tmp_path / "secret.txt"
    secret.write_text("nobody is offered this")
    hostile, chance = values(str(secret), visitor.url + "/config"), random.Random(21)
    for event in visitor.events:
        if not event["backend_fn"] or event["queue"] is not False:
            continue
        usual = visitor.values(event)
        for place in range(len(usual)):
            answer = visitor.send(event, [*usual[:place], chance.choice(hostile), *usual[place + 1 :]])
            assert secret.read_text() not in answer
        visitor.send(event, [chance.choice(hostile) for _ in usual], chance.choice(hostile))
    assert unexpected() == ([], 0)


def test_what_the_page_says_at_first_is_never_refused(visitor):
    for event in visitor.events:
        if event["backend_fn"] and event["queue"] is False:
            answer = visitor.send(event, visitor.values(event))
            assert "cannot have" not in answer, event["api_name"]


def test_stop_draws_what_is_there(visitor, unexpected):
    """With an explanation in the session every component that it changes is one of the event's outputs."""
    explain, stop = (next(e for e in visitor.events if e["api_name"] == name) for name in ("_explain", "_stopped"))
    usual = visitor.values(explain)
    labels = [visitor.components[i]["props"].get("label") for i in explain["inputs"]]
    usual[labels.index("Models, up to four")], usual[labels.index("Method")] = ["demo:resnet"], "gradient"
    visitor.send(explain, usual)
    assert "lsd-map" in visitor.send(stop, visitor.values(stop))
    assert unexpected() == ([], 0)


ENDPOINTS = {"predict": 4, "saliency": 15, "attention": 7, "feature": 7, "reasons": 9}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c),
    max_leaves=5,
)  # fmt: skip


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoints_say_in_a_sentence_what_they_do_not_take(visitor, unexpected, name):
    (event,) = [e for e in visitor.events if e["api_name"] == name]

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(JSON, min_size=1, max_size=ENDPOINTS[name] + 1))
    def refused(given):
        answer = json.loads(visitor.send(event, given).removeprefix("data:"))
        assert answer["success"] is False and answer["output"]["error"]

    refused()
    assert unexpected() == ([], 0)


def test_the_place_of_a_wrong_value_is_named(visitor):
    (event,) = [e for e in visitor.events if e["api_name"] == "feature"]
    answer = visitor.send(event, ["demo:resnet", "class/0", "lsd", "many", 0, "", None])
    assert "steps cannot be taken: input should be a valid integer" in answer


def test_a_file_that_was_not_uploaded_is_not_read(visitor, tmp_path, unexpected):
    event = next(e for e in visitor.events if e["api_name"] == "_show_square")
    (tmp_path / "x.txt").write_text("secret")
    for path in (str(tmp_path / "x.txt"), "/etc/passwd", visitor.url + "/config", "../" * 20 + "etc/passwd"):
        for file in (file_data(path), {"path": path}, {"path": path, "meta": {}}, file_data(path, is_stream=True)):
            assert "value that it cannot have" in visitor.send(event, [file, "square", None])
    assert unexpected() == ([], 0)


def test_what_an_event_tells_names_no_file_either(visitor, tmp_path, unexpected):
    event = next(e for e in visitor.events if e["api_name"] == "_pick_example")
    (tmp_path / "x.txt").write_text("secret")
    for path in (str(tmp_path / "x.txt"), "a\0b", "/etc/passwd"):
        for data in (file_data(path), {"value": [file_data(path)]}):
            assert "cannot read" in visitor.send(event, visitor.values(event), data)
    assert unexpected() == ([], 0)


def test_a_square_that_is_none_is_told(visitor, unexpected):
    event = next(e for e in visitor.events if e["api_name"] == "_write")
    usual = visitor.values(event)
    kinds = [visitor.components[i]["type"] for i in event["inputs"]]
    labels = [visitor.components[i]["props"].get("label") for i in event["inputs"]]
    for square in ({"left": 1}, {"left": [], "top": 1, "side": 2}, "a square"):
        changed = list(usual)
        changed[kinds.index("html")], changed[labels.index("View")] = square, "square"
        assert "error" not in visitor.send(event, changed)
    assert unexpected() == ([], 0)


def test_a_sentence_does_not_repeat_a_text_of_any_length():
    assert len(jobs.sentence(LSDError("word " * 100_000))) <= 2000


def test_no_request_has_an_error_that_nobody_expects(visitor, unexpected, tmp_path):
    """A sample of what the benchmark sends whole; Gradio's own routes fail on much of it."""
    (tmp_path / "secret.txt").write_text("nobody is offered this")
    asked = [
        a
        for a in requests(str(tmp_path / "secret.txt"), visitor.session)
        if a.kind in ("routes", "files", "query strings")
    ]
    chosen = random.Random(21).sample(asked, 80)
    chosen += [
        a
        for a in asked
        if "component_server" in a.path or a.path in ("/static/%00", "/gradio_api/call/predict/nothing")
    ]
    for ask in chosen:
        answer = visitor.http.request(ask.method, ask.path, content=ask.content, headers=ask.headers)
        assert "nobody is offered" not in answer.text and "root:x:" not in answer.text
    assert unexpected() == ([], 0)


def test_what_comes_back_is_no_page_of_its_own(page_url):
    answer = httpx.get(page_url, params={"u": "<script>alert(1)</script>", "tab": "<b>"})
    assert "<script>alert(1)" not in answer.text

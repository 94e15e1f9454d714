"""Causes of mistakes: by which measurements they are told apart, and that those that are shown hold."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lsd import labels
from lsd.errors import ImageError, UndefinedError
from lsd.evaluation import composed, fooled, fooled_cases
from lsd.evaluation.composed import THINGS, Detail, Paste, Recipe, compose
from lsd.evaluation.fooled import LEAST_DROP, Asked, candidates, find_cause, names, select, title, wrong
from lsd.evaluation.fooled_cases import CAUSES, Answer, Evidence, FooledCase, Square
from lsd.evaluation.fooled_sheet import by_cause, file_name, markdown
from lsd.evaluation.labelled import FOOLED_SET, open_set
from lsd.evaluation.mistakes import asked_about, scan
from lsd.labels import find_class
from lsd.models import get_model
from lsd.packages import installed

lites = pytest.mark.skipif(not installed(), reason="no ImageNet networks are installed as packages")
CAT, TIGER_CAT, PALACE, STUPA, SHUTTLE = 281, 282, 698, 832, 812


class Scripted:
    """A network that gives the answers it was told to give, one after the other, and remembers what it was shown."""

    def __init__(self, *said):
        self.said, self.shown = list(said), []

    def answers(self, pictures, true):
        self.shown += pictures
        return [Answer(self.said.pop(0), 0.6, 0.1) for _ in pictures]

    def painted(self, picture, mask):
        pixels = np.array(picture)
        pixels[mask] = 0
        return Image.fromarray(pixels)

    def share(self, picture, true, said, mask):
        return 0.5


def cause(recipe, said, *then):
    network = Scripted(*then)
    return find_cause(network, recipe, compose(recipe), Answer(said, 0.6, 0.1)), network


# Which cause


def test_an_answer_of_the_same_kind_is_a_debatable_label():
    found, network = cause(Recipe("Chelsea the cat", "cat"), TIGER_CAT)
    assert (found.cause, found.about, found.undone) == ("label", "domestic cat", None) and not network.shown
    found, _ = cause(Recipe("Coffee cup", "espresso"), 968)
    assert (found.cause, found.about) == ("label", "")


@pytest.mark.parametrize(("after", "is_second"), [(PALACE, True), (STUPA, True), (TIGER_CAT, False)])
def test_a_second_thing_is_named_and_its_absence_changes_the_answer(after, is_second):
    recipe = Recipe("Summer Palace", "palace", paste=Paste("cat", 150, 450, 200))
    found, network = cause(recipe, CAT, after)
    made = compose(recipe)
    [shown] = network.shown
    assert (np.asarray(shown)[made.masks["cat"]] == 0).all()
    assert np.array_equal(np.asarray(shown)[~made.masks["cat"]], np.asarray(made.picture)[~made.masks["cat"]])
    if is_second:
        assert (found.cause, found.about, found.share, found.undone.said) == ("second", "cat", 0.5, after)
        assert found.area == round(float(made.masks["cat"].mean()), 3)
    else:
        assert found is None


BOX = (60, 20, 360, 320)


@pytest.mark.parametrize(
    ("step", "name"),
    [({"crop": BOX}, "crop"), ({"turn": 180}, "turn"), ({"cover": BOX}, "cover"), ({"crop": BOX, "turn": 90}, "turn")],
)
def test_what_was_done_is_the_cause_where_the_answer_is_right_without_it(step, name):
    recipe = Recipe("Summer Palace", "palace", **step)
    found, network = cause(recipe, STUPA, PALACE)
    assert (found.cause, found.undone.said) == (name, PALACE)
    before = Recipe("Summer Palace", "palace", **{k: v for k, v in step.items() if k != name})
    assert np.array_equal(np.asarray(network.shown[0]), np.asarray(compose(before).picture))


def test_else_it_may_be_the_context_or_nothing_that_is_known():
    recipe = Recipe("Summer Palace", "palace", crop=BOX)
    found, network = cause(recipe, STUPA, STUPA, PALACE)
    assert found.cause == "context"
    mask = compose(recipe).masks["palace"]
    assert (np.asarray(network.shown[1])[~mask] == 0).all()
    assert cause(recipe, STUPA, STUPA, STUPA)[0] is None


def test_texture_takes_a_right_answer_with_the_own_detail_and_one_without_any():
    recipe = Recipe("Summer Palace", "palace", detail=Detail("Grass", 4.0))
    found, network = cause(recipe, STUPA, PALACE, PALACE)
    assert found.cause == "texture" and len(network.shown) == 2
    assert np.array_equal(np.asarray(network.shown[0]), np.asarray(compose(Recipe("Summer Palace", "palace")).picture))
    for answers in ((PALACE, STUPA), (STUPA, PALACE)):
        assert cause(recipe, STUPA, *answers)[0] is None


def test_an_answer_that_is_hardly_above_the_truth_is_not_wrong():
    assert (
        wrong(Answer(5, 0.4, 0.29), CAT)
        and not wrong(Answer(5, 0.4, 0.31), CAT)
        and not wrong(Answer(CAT, 0.9, 0.9), CAT)
    )


# What counts as right


@pytest.mark.parametrize(
    ("thing", "said", "right"),
    [
        ("cat", "Siamese cat", True), ("cat", "lynx", False), ("clock", "analog clock", True), ("espresso", "cup", True),
        ("espresso", "eggnog", False), ("palace", "monastery", True), ("palace", "stupa", False),
        ("helmet", "football helmet", True), ("tripod", "parachute", False),
    ],
)  # fmt: skip
def test_what_names_a_thing(thing, said, right):
    assert names(THINGS[thing], find_class(labels.class_names(1000), said)) == right


# Candidates and selection


def test_candidates_are_the_same_for_a_seed_and_show_what_they_are_labelled_as(monkeypatch):
    monkeypatch.setattr(fooled, "LABELLED", ("space shuttle", "palace"))
    monkeypatch.setattr(fooled, "STICKERS", ("palace",))
    monkeypatch.setattr(fooled, "SCENES", ("Grass", "Astronaut"))
    first, again, other = list(candidates()), list(candidates()), list(candidates(1))
    assert first == again != other
    assert {"crop", "cover", "turn", "detail", "paste"} <= {step for one in first for step in one.to_dict()}
    for recipe in first:
        made = compose(recipe)
        areas = {name: mask.sum() for name, mask in made.masks.items()}
        if recipe.paste:
            assert areas.pop(recipe.thing) >= 1.2 * max(areas.values(), default=0)
        else:
            whole = compose(Recipe(recipe.photo, recipe.thing)).masks[recipe.thing]
            assert areas[recipe.thing] >= 0.2 * whole.sum()


def _found(thing, photo, cause, wrong_by, probability, **step):
    answer = Answer(5, probability, 0.0)
    return Recipe(photo, thing, **step), {f"m{k}": Evidence(cause, answer) for k in range(wrong_by)}


def test_those_that_fool_most_networks_by_most_come_first_and_no_making_fills_the_list():
    crops = [_found("palace", "Summer Palace", "crop", 1, 0.3 + k / 10, crop=(k, 0, 300, 300)) for k in range(4)]
    both = _found("cat", "Chelsea the cat", "crop", 2, 0.2, crop=(0, 0, 200, 200))
    label = _found("cat", "Chelsea the cat", "label", 1, 0.9)
    chosen = select([*crops, both, label], 3)
    assert [case.recipe for case in chosen] == [both[0], crops[3][0], crops[2][0], label[0]]
    assert [case.name for case in chosen] == ["cat, cropped", "palace, cropped", "palace, cropped (2)", "cat"]
    assert len(select([*crops, both], 1)) == 1


def test_titles():
    assert title(Recipe("Summer Palace", "palace", paste=Paste("cat", 90, 0, 0))) == "palace, with cat"
    assert title(Recipe("Grass", "cat", paste=Paste("cat", 90, 0, 0))) == "cat in “Grass”"
    assert title(Recipe("Coffee cup", "espresso", detail=Detail("Grass", 2.0))) == "espresso with the detail of “Grass”"


# What is shown


def test_the_cases_are_many_of_every_cause_and_their_pictures_can_be_made():
    cases = fooled_cases.fooled_cases()
    assert len(cases) >= 30 and len({case.name for case in cases}) == len(cases)
    found = {one.cause for case in cases for one in case.evidence.values()}
    assert {"context", "texture", "second", "crop", "label"} <= found <= set(CAUSES)
    opened = open_set(FOOLED_SET)
    assert [item.id for item in opened] == [case.name for case in cases]
    for item in opened:
        parts = item.parts()
        assert item.mask().any() and {mask.shape for mask in parts.values()} == {item.picture().size[::-1]}
        assert item.label.number == THINGS[item.recipe.thing].number
    assert any("danielbuechele" in note for note in opened.notes)


def test_the_docs_tell_of_these_cases():
    cases = fooled_cases.fooled_cases()
    sorted_out = by_cause(cases)
    assert sum(map(len, sorted_out.values())) == len(cases)
    text = markdown(cases, "pictures")
    page = Path(__file__).parents[3] / "docs" / "mistakes.md"
    assert text in page.read_text("utf-8")
    for cause, chosen in sorted_out.items():
        assert (page.parent / "pictures" / file_name(cause)).is_file() == bool(chosen)
        assert all(found.cause == cause for _, _, found in chosen)


def test_a_case_is_the_same_after_json():
    answer = Answer(5, 0.5, 0.1)
    squares = (Square((0.0, 0.0, 0.3, 0.3), 2.0, answer), Square((0.5, 0.0, 0.8, 0.3), 3.0, answer))
    case = FooledCase(
        "a", Recipe("Grass", "cat", paste=Paste("cat", 90, 0, 0)),
        {"m": Evidence("second", answer, answer, "cat", 0.5, 0.1, squares), "n": Evidence("label", answer)},
        {"m": answer, "n": answer, "o": Answer(7, 0.9, 0.9)},
    )  # fmt: skip
    assert FooledCase.from_dict(json.loads(json.dumps(case.to_dict()))) == case
    assert case.evidence["m"].decisive == 1
    assert asdict(Evidence.from_dict(asdict(case.evidence["n"]))) == asdict(case.evidence["n"])


def test_without_the_photos_there_are_no_such_cases(monkeypatch):
    monkeypatch.setattr(fooled_cases, "example_images", dict)
    assert fooled_cases.fooled_cases() == []


@lites
def test_what_is_said_of_the_cases_holds_on_the_networks():
    asked = {name: Asked(get_model(name)) for name in installed()}
    told = 0
    for case in fooled_cases.fooled_cases()[::6]:
        made, true = compose(case.recipe), THINGS[case.recipe.thing].number
        for model, kept in case.evidence.items():
            [answer] = asked[model].answers([made.picture], true)
            assert answer.said == kept.answer.said and abs(answer.probability - kept.answer.probability) < 0.02
            found = find_cause(asked[model], case.recipe, made, answer)
            assert (found.cause, found.about) == (kept.cause, kept.about)
            assert (found.undone and found.undone.said) == (kept.undone and kept.undone.said)
            told += 1
        for name, kept in case.answers.items():
            [answer] = asked[name].answers([made.picture], true)
            assert answer.said == kept.said and abs(answer.probability - kept.probability) < 0.02
            assert abs(answer.true_probability - kept.true_probability) < 0.02
    assert told >= 5


@lites
def test_what_the_networks_say_of_all_cases_is_known_for_their_own_weights_alone():
    cases, models = open_set(FOOLED_SET), [get_model(name) for name in installed()]
    assert asked_about(models, cases) == 0
    *_, told = scan(models, cases)
    for case, item in zip(fooled_cases.fooled_cases(), told.result.items, strict=True):
        column = told.result.items.index(item)
        for row, model in enumerate(models):
            p = told.result.prediction(row, column)
            kept = case.answers[model.name]
            assert (p.predicted, p.wrong_by) == (kept.said, int(told.result.wrong[:, column].sum()))
            assert p.true_probability == pytest.approx(kept.true_probability)
    first = cases[0]
    other = replace(models[0].identity, digest="0" * 64)
    assert first.answer(SimpleNamespace(name=models[0].name, identity=models[0].identity))
    assert first.answer(SimpleNamespace(name=models[0].name, identity=other)) is None
    assert first.answer(SimpleNamespace(name="another", identity=models[0].identity)) is None


@lites
def test_of_the_squares_one_decides_and_the_others_do_little():
    case = next(case for case in fooled_cases.fooled_cases() if any(one.squares for one in case.evidence.values()))
    name, kept = next((name, one) for name, one in case.evidence.items() if one.squares)
    picture, true = compose(case.recipe).picture, THINGS[case.recipe.thing].number
    squares = Asked(get_model(name)).squares(picture, true, kept.answer.said)
    assert [one.box for one in squares] == [one.box for one in kept.squares]
    drops = sorted(one.drop for one in squares)
    assert drops[2] >= LEAST_DROP and max(abs(drop) for drop in drops[:2]) <= drops[2] / 4 + 0.01
    boxes = [one.box for one in squares]
    assert boxes == sorted(boxes)
    for k, one in enumerate(boxes):
        assert all(one[2] <= b[0] or b[2] <= one[0] or one[3] <= b[1] or b[3] <= one[1] for b in boxes[k + 1 :])


def test_a_network_without_imagenets_classes_and_a_photo_that_is_gone_are_refused(monkeypatch):
    with pytest.raises(UndefinedError, match="does not have ImageNet's 1000 classes"):
        Asked(get_model("demo:resnet"))
    item = open_set(FOOLED_SET)[0]
    monkeypatch.setattr(composed, "example_images", dict)
    composed._photo.cache_clear()
    with pytest.raises(ImageError, match="is not there"):
        item.picture()

"""What a run is asked for: the command line over a TOML file, and what neither may say."""

import pytest

from lsd.errors import LSDError
from lsd.features.recipes import LSD, LUCID, MACO, TEXTURE
from lsd.said import Said
from precompute.settings import QUALITY, read, read_parts

LEAST = {"models": ["demo:resnet"], "units": ["class:all"]}


def test_what_is_not_said_has_a_default():
    settings = read(LEAST)
    assert settings.models == ("demo:resnet",) and settings.units == ("class:all",)
    assert settings.recipes == (LSD,) and settings.seeds == 1 and settings.verifiers == ()
    assert settings.batch_size is None and settings.quality == QUALITY


def test_a_file_says_the_same_as_the_command_line(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(
        'models = ["demo:resnet", "vit_*"]\nunits = ["class:0-9"]\nrecipe = ["lucid", "maco"]\nset = ["tv=0.5"]\n'
        'seeds = 2\nsize = 64\nsteps = 8\nverifiers = ["demo:vit"]\nbatch_size = 4\nquality = 75\n'
        'outputs = ["sigmoid", "vit_*=classes"]\nlayout = ["demo:resnet=layer1=nhwc"]\n'
    )
    values = {
        "models": ["demo:resnet", "vit_*"], "units": ["class:0-9"], "recipe": ["lucid", "maco"], "set": ["tv=0.5"],
        "seeds": 2, "size": 64, "steps": 8, "verifiers": ["demo:vit"], "batch_size": 4, "quality": 75,
        "outputs": ["sigmoid", "vit_*=classes"], "layout": ["demo:resnet=layer1=nhwc"],
    }  # fmt: skip
    assert read({}, file) == read(values)
    assert read({}, file).sayings.of("demo:resnet") == Said("sigmoid", {"layer1": "nhwc"})
    assert read({}, file).sayings.of("vit_tiny") == Said("classes")
    assert [r.parameterization for r in read({}, file).recipes] == [LUCID.parameterization, MACO.parameterization]
    assert all(r.tv == 0.5 and r.steps == 8 and r.size == 64 for r in read({}, file).recipes)


def test_the_command_line_wins_over_the_file_where_it_says_something(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('models = ["demo:resnet"]\nunits = ["class:all"]\nseeds = 2\nquality = 50\n')
    settings = read({"seeds": 3, "quality": None, "units": ["class:0"]}, file)
    assert settings.seeds == 3 and settings.quality == 50 and settings.units == ("class:0",)


PARTS = """
models = ["demo:resnet"]
seeds = 2
quality = 80
[[part]]
units = ["class:all"]
[[part]]
units = ["layer3:channels"]
recipe = ["texture"]
seeds = 1
"""


def test_the_parts_of_a_file_have_what_stands_above_them_and_the_command_line_holds_for_all(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(PARTS)
    classes, channels = read_parts({"quality": 70}, file)
    assert (classes.units, classes.recipes, classes.seeds) == (("class:all",), (LSD,), 2)
    assert (channels.units, channels.recipes, channels.seeds) == (("layer3:channels",), (TEXTURE,), 1)
    assert all(part.models == ("demo:resnet",) and part.quality == 70 for part in (classes, channels))
    assert len(read_parts({"units": ["class:0"], "recipe": ["lsd"], "seeds": 1}, file)) == 1  # the same twice is once
    with pytest.raises(LSDError, match="has 2 parts, where one is wanted"):
        read({}, file)


def test_what_a_part_says_wrongly_is_said_before_anything_is_done(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(PARTS + "quality = 101\n")
    with pytest.raises(LSDError, match="quality lies between 1 and 100, not 101"):
        read_parts({}, file)


def test_the_same_recipe_or_verifier_twice_is_once():
    settings = read(LEAST | {"recipe": ["lucid", "lucid"], "verifiers": ["demo:vit", "demo:vit"]})
    assert settings.recipes == (LUCID,) and settings.verifiers == ("demo:vit",)


@pytest.mark.parametrize("values, words", [
    ({"models": []}, "Which models"),
    ({"units": None}, "Which units"),
    ({"models": "demo:resnet"}, "models is a list of texts"),
    ({"units": [7]}, "units is a list of texts"),
    ({"verifiers": "demo:vit"}, "verifiers is a list of texts"),
    ({"seeds": "2"}, "seeds is a whole number"),
    ({"seeds": True}, "seeds is a whole number"),
    ({"steps": 2.5}, "steps is a whole number"),
    ({"seeds": 0}, "between 1 and 1000"),
    ({"quality": 0}, "between 1 and 100"),
    ({"quality": 101}, "between 1 and 100"),
    ({"batch_size": 0}, "between 1 and 4096"),
    ({"size": 5000}, "between 16 and 2048"),
    ({"recipe": ["best"]}, "There is no recipe"),
    ({"set": ["views"]}, "NAME=VALUE"),
    ({"set": ["foo=3"]}, "is not a setting"),
    ({"outputs": "sigmoid"}, "outputs is a list of texts"),
    ({"outputs": ["demo:resnet="]}, "does not say what outputs are"),
    ({"layout": ["layer1"]}, "“layer1” is not a layout"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence(values, words):
    with pytest.raises(LSDError, match=words) as error:
        read(LEAST | values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text, words", [
    ('modles = ["demo:resnet"]', "“modles” is not a setting of a run; there are models"),
    ('part = ["class:all"]', r"A part of .* begins with \[\[part\]\]"),
    ('[[part]]\nmodles = ["demo:resnet"]', "“modles” is not a setting of a run"),
    ("models = [", "is not TOML"),
    ("[models]\na = 1", "models is a list of texts"),
    ("\udcff", "is not TOML"),
])  # fmt: skip
def test_a_file_that_will_not_do_is_refused(tmp_path, text, words):
    file = tmp_path / "run.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LSDError, match=words):
        read({"units": ["class:all"]}, file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LSDError, match=r"missing\.toml cannot be read: No such file"):
        read({}, tmp_path / "missing.toml")

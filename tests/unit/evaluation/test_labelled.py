import itertools
import time

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from lsd import labels
from lsd.demo import CLASS_NAMES, demo_set
from lsd.errors import ImageError, UndefinedError
from lsd.evaluation import labelled
from lsd.evaluation.labelled import DataError, Label, available_sets, balanced, label_index, open_set, true_indices
from lsd.models import ImageModel

CRANES = [i for i, name in enumerate(labels.class_names(1000)) if "crane" in name.split(", ")]


def with_head(num_classes, label_names=None, name="net"):
    net = timm.create_model("test_resnet", pretrained=False, num_classes=num_classes)
    if label_names:
        net.pretrained_cfg = {**net.pretrained_cfg, "label_names": list(label_names)}
    return ImageModel(net, name)


@pytest.fixture(scope="module")
def imagenet():
    return with_head(1000)


@pytest.fixture
def folder(tmp_path):
    """Writes small pictures: relative paths → the folder that holds them."""

    def write(*paths):
        for number, path in enumerate(paths):
            (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "set" / path)
        return str(tmp_path / "set")

    return write


def one_sentence(error):
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and len(text) < 300


# Demo sets


@pytest.mark.parametrize(
    ("name", "tags"), [("demo", "none"), ("demo:true-tags", "true"), ("demo:misleading-tags", "misleading")]
)
def test_demo_pictures_are_those_of_the_test_split(name, tags):
    per_class = 17  # beyond 15, so that the misleading tags have taken all their turns
    opened = open_set(name, limit=per_class * 16)
    samples = list(itertools.islice(demo_set("test", per_class, tags), len(opened)))
    assert [(i.label.number, i.seed, i.tag) for i in opened] == [(s.class_index, s.seed, s.tag) for s in samples]
    for position in (0, 37, 271):
        item, sample = opened[position], samples[position]
        assert np.array_equal(np.asarray(item.picture()), sample.image)
        assert np.array_equal(item.mask(), sample.mask)
        assert item.tag_mask() is None if tags == "none" else np.array_equal(item.tag_mask(), sample.tag_mask)


def test_opening_a_set_draws_nothing(monkeypatch):
    monkeypatch.setattr(labelled, "render", None)
    assert len(open_set("demo")) == 1600
    assert len(open_set("demo", limit=7)) == 7


def test_demo_labels_are_the_classes_of_models_with_these_names_only(imagenet):
    opened = open_set("demo:true-tags", limit=40)
    expected = [item.label.number for item in opened]
    assert true_indices(opened, with_head(16, CLASS_NAMES)).tolist() == expected
    shuffled = with_head(16, CLASS_NAMES[::-1])
    assert true_indices(opened, shuffled).tolist() == [15 - number for number in expected]
    for other in (imagenet, with_head(16, [f"thing {i}" for i in range(16)], "things"), with_head(0)):
        with pytest.raises(UndefinedError, match="labels of demo:true-tags are not classes of") as error:
            true_indices(opened, other)
        assert one_sentence(error)


# Folders


def test_numbered_files(folder, imagenet):
    path = folder("0207_n02099601_golden.jpg", "0003_a.png", "0003_b.webp", "2024_holiday.jpg", "0007.jpg", "note.png")
    opened = open_set(path)
    assert opened.name == "set"
    assert [item.id for item in opened] == ["0003_a.png", "0003_b.webp", "0207_n02099601_golden.jpg"]
    assert [item.label.text for item in opened] == ["tiger shark", "tiger shark", "golden retriever"]
    assert [item.label.synset for item in opened] == [None, None, "n02099601"]
    assert true_indices(opened, imagenet).tolist() == [3, 3, 207]
    assert opened[2].picture().size == (4, 4) and opened[2].mask() is None and opened[2].tag_mask() is None
    assert opened.notes == ("Without a label, and so left out: 3 of the files.",)


def test_class_folders_by_name(folder):
    opened = open_set(folder("Golden_retriever/b.png", "Golden_retriever/a.png", "cock/deep/er/c.jpg", ".hidden/d.jpg"))
    assert [item.id for item in opened] == ["Golden_retriever/a.png", "Golden_retriever/b.png", "cock/deep/er/c.jpg"]
    assert true_indices(opened, with_head(1000)).tolist() == [207, 207, 7]


def test_class_folders_by_wordnet_id(folder, imagenet):
    opened = open_set(folder("n02099601/a.png", "n01514668-cock/a.png"))
    assert [item.label.text for item in opened] == ["cock", "golden retriever"]
    assert true_indices(opened, imagenet).tolist() == [7, 207]


def test_class_folders_by_number(folder, imagenet):
    opened = open_set(folder("0/a.png", "1/a.png", "10/a.png", "2/a.png"))
    assert true_indices(opened, with_head(11)).tolist() == [0, 1, 10, 2]
    for other in (imagenet, with_head(12)):  # whose numbers these are nobody knows, unless there are as many classes
        with pytest.raises(UndefinedError):
            true_indices(opened, other)


def test_class_folders_by_imagenet_number(folder, imagenet):
    assert true_indices(open_set(folder("0207/a.png", "0003/a.png")), imagenet).tolist() == [3, 207]


def test_a_damaged_file_fails_alone_and_by_its_id(folder, tmp_path):
    path = folder("0001_a.png", "0002_b.png")
    (tmp_path / "set" / "0001_a.png").write_bytes(b"nothing")
    opened = open_set(path)
    with pytest.raises(ImageError, match=r"'0001_a\.png'") as error:
        opened[0].picture()
    assert str(tmp_path) not in str(error.value)
    assert opened[1].picture().getpixel((0, 0)) == (1, 0, 0)


def test_listed_folders(folder, monkeypatch):
    path = folder("0001_a.png")
    monkeypatch.setenv("LSD_IMAGE_PATH", f"{path}:/nowhere/at/all")
    assert available_sets() == [
        "example-photos",
        "what-fooled-them",
        "demo",
        "demo:true-tags",
        "demo:misleading-tags",
        "set",
    ]
    assert open_set("set")[0].id == "0001_a.png"


@pytest.mark.parametrize("source", ["", "no/such/folder", "demo:no-tags", "hf:"])
def test_what_is_not_there_is_one_sentence(source):
    with pytest.raises(DataError) as error:
        open_set(source)
    assert one_sentence(error)


def test_a_folder_without_labels_says_what_to_do(folder):
    with pytest.raises(DataError, match=r"0207_…\.jpg"):
        open_set(folder("a.png", "b.png"))
    with pytest.raises(DataError, match="limit cannot be 0"):
        open_set(folder("0001_a.png"), limit=0)


# What a label means to a model


def test_a_wordnet_id_counts_in_every_imagenet_head():
    synset = "n02099601"
    twelve = with_head(11821)
    label = Label("whatever", synset, 207, labels.class_names(1000))
    assert label_index(label, twelve) == labels.synsets(11821).index(synset)
    few = with_head(3, ["n01514668", synset, "n01440764"])
    assert label_index(Label("whatever", synset), few) == 1
    with pytest.raises(UndefinedError):  # the id decides: the name is not asked
        label_index(Label("cock", "n02123045"), few)


def test_names_match_by_synonym_whatever_the_spelling(imagenet):
    for name in ("Golden-Retriever", "golden_retriever", "foo, GOLDEN  retriever"):
        assert label_index(Label(name), imagenet) == 207
    with pytest.raises(UndefinedError, match="“retriever” is not a class of net"):
        label_index(Label("retriever"), imagenet)


def test_the_whole_name_goes_before_a_synonym():
    assert label_index(Label("dog"), with_head(3, ["dog, hound", "Dog", "cat"])) == 1


def test_a_name_of_two_classes_is_refused_unless_the_number_tells(imagenet):
    assert len(CRANES) == 2
    with pytest.raises(UndefinedError, match="fits several classes") as error:
        label_index(Label("crane"), imagenet)
    assert one_sentence(error)
    for number in CRANES:
        assert label_index(Label("crane", number=number, space=labels.class_names(1000)), imagenet) == number


def test_numbers_of_another_data_set_of_the_same_size_do_not_count():
    animals, tools = ["cat", "dog", "owl"], ["saw", "axe", "dog"]
    label = Label("cat", number=0, space=tuple(animals))
    assert label_index(label, with_head(3, animals)) == 0
    assert label_index(label, with_head(3)) == 0  # "class 0", "class 1", …: only numbers to go by
    with pytest.raises(UndefinedError):
        label_index(label, with_head(3, tools))
    assert label_index(Label("dog", number=1, space=tuple(animals)), with_head(3, tools)) == 2


# Limits


def test_a_limit_shares_out_evenly():
    classes = ["a"] * 10 + ["b"] * 2 + ["c"] * 10
    chosen = balanced(classes, 12)
    assert chosen == sorted(set(chosen)) and len(chosen) == 12
    assert [[classes[i] for i in chosen].count(c) for c in "abc"] == [5, 2, 5]
    assert [i for i in chosen if i < 10] == [1, 3, 5, 7, 9]
    assert [classes[i] for i in balanced(classes, 1)] == ["b"]
    assert balanced(classes, 99) == list(range(22))


def test_a_limit_in_a_folder(folder):
    path = folder(*(f"000{c}_{i}.png" for c in range(3) for i in range(4)))
    assert [item.id for item in open_set(path, limit=3)] == ["0000_2.png", "0001_2.png", "0002_2.png"]
    assert len(open_set(path, limit=100)) == 12
    assert [item.label.number for item in open_set("demo", limit=32)] == [*range(16)] * 2


# Hugging Face data sets


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """A folder with splits "train" (4 rows) and "test" (3, one damaged and one without label) in parquet."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"n": datasets.Value("int64"), "img": datasets.Image(), "y": datasets.ClassLabel(names=["cat", "dog"])}
    )
    png = tmp_path / "p.png"
    Image.new("RGB", (5, 3), (9, 9, 9)).save(png)
    good, bad = {"bytes": png.read_bytes(), "path": None}, {"bytes": b"nothing", "path": None}
    splits = {"train": ([good] * 4, [0, 0, 1, 1]), "test": ([good, bad, good], [1, 0, -1])}
    (tmp_path / "pets").mkdir()
    for split, (images, numbers) in splits.items():
        rows = {"n": list(range(len(images))), "img": images, "y": numbers}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "pets" / f"{split}.parquet"))
    return tmp_path / "pets"


def test_a_hugging_face_set_on_disk(hugging_face):
    opened = open_set(f"hf:{hugging_face}")  # the held-out split, if none is named
    assert opened.name == "hf:pets"
    assert [(item.id, item.label.text) for item in opened] == [("test/0", "dog"), ("test/1", "cat")]
    assert opened.notes == ("Without a label, and so left out: 1 of the rows.",)
    assert opened[0].picture().size == (5, 3)
    with pytest.raises(ImageError, match="'test/1'"):
        opened[1].picture()
    assert true_indices(opened, with_head(3, ["dog", "cat", "owl"])).tolist() == [0, 1]
    assert [item.label.number for item in open_set(f"hf:{hugging_face}@train", limit=2)] == [0, 1]
    assert len(open_set(f"hf:{hugging_face / 'train.parquet'}")) == 4
    with pytest.raises(DataError, match="hf:pets@other cannot be opened") as error:
        open_set(f"hf:{hugging_face}@other")
    assert one_sentence(error)


def test_an_image_folder_through_hugging_face(folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    opened = open_set("hf:" + folder("n01514668/a.png", "n02099601/b.png"))
    assert [item.label.text for item in opened] == ["cock", "golden retriever"]
    assert [item.label.synset for item in opened] == ["n01514668", "n02099601"]
    assert opened[1].picture().getpixel((0, 0)) == (1, 0, 0)


def test_offline_is_said_at_once(monkeypatch):
    pytest.importorskip("datasets")
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    start = time.perf_counter()
    with pytest.raises(DataError, match="out of reach") as error:
        open_set("hf:nobody/nothing@test")
    assert one_sentence(error) and time.perf_counter() - start < 5


def test_a_data_set_that_is_too_large_is_not_downloaded(monkeypatch):
    from types import SimpleNamespace

    import datasets
    import huggingface_hub

    huge = SimpleNamespace(siblings=[SimpleNamespace(size=2**40), SimpleNamespace(size=None)])
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: huge)
    monkeypatch.setattr(datasets, "load_dataset", lambda **kwargs: pytest.fail("it was downloaded"))
    with pytest.raises(DataError, match=r"too large: its files take 1024\.0 GiB") as error:
        open_set("hf:somebody/huge@test")
    assert one_sentence(error)


def test_indices_come_as_integers():
    opened = open_set("demo", limit=3)
    found = true_indices(opened, with_head(16, CLASS_NAMES))
    assert found.dtype == np.int64 and torch.from_numpy(found).shape == (3,)

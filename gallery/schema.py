"""One row of the gallery: one unit of one model under one recipe and seed.

A row says what the picture shows, the picture itself, how good it is, and everything that made it, so that it can be made
again from the row alone.
"""

from datasets import Features, Image, List, Value

from gallery.formats import FORMAT, KEY
from lsd.features.recipes import RECIPES, Recipe

ROW_GROUP = 64  # rows; a page of thumbnails is one or two reads, however large the shard
THUMBNAIL = 128  # side in pixels
TRACE_POINTS = 64

_TOP = List({"index": Value("int32"), "name": Value("string"), "probability": Value("float32")})

FEATURES = Features(
    {
        # what it is
        "unit_id": Value("string"),  # permanent and readable, see `unit_id`
        "model": Value("string"),
        "architecture": Value("string"),
        "family": Value("string"),
        "layer": Value("string"),  # dotted name; "" for classes
        "depth": Value("int32"),  # place of the layer among the model's layers; classes come last
        "kind": Value("string"),  # class, channel, head, …: the unit's kind; "expression" for sums and products
        "index": Value("int32"),  # the first of the unit's numbers: class, channel, head; -1 if it has none
        "unit": Value("string"),  # as `lsd.features.units` writes it
        "title": Value("string"),  # a caption: a class by its name
        "class_name": Value("string"),  # all synonyms, for class units; "" otherwise
        "synset": Value("string"),  # WordNet id of the class of an ImageNet head; "" otherwise
        "recipe": Value("string"),  # see `recipe_id`
        "recipe_hash": Value("string"),
        "seed": Value("int32"),
        # the picture
        "picture": Image(),  # WebP
        "thumbnail": Image(),  # WebP, the longer side `THUMBNAIL` pixels
        "width": Value("int32"),
        "height": Value("int32"),
        # how good it is
        "status": Value("string"),  # ok; dead: no gradient reaches it; failed: see error
        "error": Value("string"),  # one sentence; "" unless failed
        "notes": List(Value("string")),  # sentences: why it is dead, what of its recipe came to nothing in the network
        "score": Value("float32"),  # the objective at the 8-bit picture, seen whole
        "own_top": _TOP,  # what its own network takes it for, five classes
        "own_probability": Value("float32"),  # of the unit's class; null for other units
        "verifiers": List({"model": Value("string"), "top": _TOP}),
        "agreement": Value("float32"),  # share of verifiers whose first answer is the unit's class; null without any
        "spread": Value("float32"),  # mean cosine distance of the seeds' pictures at the last block; null for one seed
        "fine_energy": Value("float32"),  # share of the variance above a quarter of a cycle a pixel
        "contrast": Value("float32"),  # standard deviation over places and colours, as a fraction of white
        "clipped": Value("float32"),  # share of the numbers that are as good as black or white
        "flat": Value("string"),  # "grey", "saturated" or ""
        "trace": List(Value("float32")),  # the objective over the ascent, at most 64 points
        "restarts": Value("int32"),
        # what made it
        "weights_source": Value("string"),
        "weights_repo": Value("string"),
        "weights_revision": Value("string"),
        "weights_sha256": Value("string"),  # of the file
        "weights_digest": Value("string"),  # of the tensors, whatever file they came in: `lsd.identity.tensors_digest`
        "recipe_json": Value("string"),
        "steps": Value("int32"),  # taken
        "batch": Value("int32"),  # which of the task's batches: neighbours and their number may change the last bits
        "batch_size": Value("int32"),
        "batch_place": Value("int32"),
        "pixels_sha256": Value("string"),  # of the 8-bit pixels before WebP
        "environment": Value("string"),  # JSON: versions, device, threads
        "seconds": Value("float32"),  # its share of its batch's time
        "created": Value("string"),  # ISO date, UTC
        "task": Value("string"),  # hash of the task that made it
        # {model: {"outputs", "layouts"}}, JSON: what a person said of its model and of others that it was made or judged with
        "said": Value("string"),
        "names_assumed": List(
            Value("string")
        ),  # those of its model and verifiers whose class names only their number speaks for
        # what excites it in somebody's photos; null where none were looked at
        "photos": {
            "count": Value("int32"),  # different photos that could be read
            "digest": Value("string"),  # of the folder: SHA-256 of all names and contents
            "note": Value("string"),  # sentences: what is not there, and why
            "value": Value(
                "float32"
            ),  # the unit's answer to the picture, asked as about the photos; null if it cannot be
            "below": Value("float32"),  # share of the photos to which it answers less
            "quantiles": List(Value("float32")),  # of its answers to the photos: least, …, largest, evenly spaced
        },
        "exemplars": List(  # the photos that it answers to most, the largest answer first
            {
                "file": Value("string"),  # path below the folder
                "digest": Value("string"),  # SHA-256 of the file
                "box": List(Value("int32")),  # left, top, right, bottom in the upright photo's pixels
                "value": Value("float32"),
            }
        ),
        "crops": List(Image()),  # the same cut out, in the same order, where copies were asked for; WebP
        "path": List(  # whether the picture takes the exemplars' path: see `lsd.evaluation.trust_path`
            {
                "layer": Value("string"),
                "picture": Value("float32"),  # similarity of the picture with the exemplars
                "alike": Value("float32"),  # of the exemplars among themselves
                "next": Value("float32"),  # of the photos that excite the unit nearly as much, with the exemplars
                "apart": Value("float32"),  # of photos taken without choice, with the exemplars
                "likeness": Value(
                    "float32"
                ),  # the picture's, from apart (0) to alike (1); null where these do not differ
            }
        ),
    }
)

_COLUMNS = FEATURES.arrow_schema
SCHEMA = _COLUMNS.with_metadata({**_COLUMNS.metadata, KEY: str(FORMAT)})
REQUIRED = tuple(FEATURES)[
    : list(FEATURES).index("picture")
]  # what a row is; files without the rest are read with nulls

OF_PHOTOS = ("photos", "exemplars", "crops", "path")  # null in a row of whose unit no photos were looked at
# What the index leaves out: the pictures, and what only a unit's own page shows.
HEAVY = (
    *("picture", "thumbnail", "trace", "recipe_json", "environment", "own_top", "verifiers", "notes", "said"),
    *OF_PHOTOS,
)
# What may differ between two makings of the same row.
INCIDENTAL = ("seconds", "created", "environment")


def recipe_id(recipe: Recipe) -> str:
    """How a recipe is called in ids: its name if it is the shipped one of that name, else the name and its hash."""
    name = recipe.name if recipe.name in RECIPES else "custom"
    return name if RECIPES.get(name) == recipe else f"{name}-{recipe.hash[:8]}"


def unit_id(model: str, unit: str, recipe: str, seed: int) -> str:
    """`resnet50.a1_in1k/class/207/lucid/0`: the model, the unit, `recipe_id` and the seed."""
    return f"{model}/{unit}/{recipe}/{seed}"

"""How long the gallery takes to answer, alone and with many visitors, and what it takes in memory and on disk.

    python -m benchmarks.gallery_speed --rows 100000 --folder /tmp/gallery [--clients 50 --think 1 --seconds 30]
    python -m benchmarks.gallery_speed --rows 10000000 --folder /tmp/gallery-10m --index-only

A gallery is made up in the folder, unless one of that many rows is there: models with a thousand classes under two
recipes and two thousand channels each, with a few hundred different pictures; with `--index-only` there is an index, and
there are no shards. An answer is everything that a page of the tab needs from the gallery: its rows, facets and
thumbnails, or one row with all that belongs to it. Drawing the page and sending it are not in it.

Protocol: each question is asked alone, in turn, with ever other models, words and pages. Then `--clients` threads ask at
once; each waits for its answer, then thinks for an exponentially distributed time of mean `--think` seconds (0: never),
and asks a question drawn at random. The clients share the process, and so its lock, with the gallery, as Gradio's
threads do. The first second is not counted. Where other work has a part of the cores, the seconds are an upper bound;
the processor time of an answer is not.
"""

import argparse
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from gallery import pictures, shards
from gallery.index import INDEX_SCHEMA, LIGHT, NAME, build, find_shards, write
from gallery.queries import SORTS, Filters, Gallery
from gallery.schema import ROW_GROUP, unit_id
from lsd import labels
from lsd.catalogue import CURATED
from lsd.features.recipes import RECIPES
from lsd.provenance import slug

CLASSES = 1000
LAYERS, CHANNELS = 4, 500
PER_MODEL = 2 * CLASSES + LAYERS * CHANNELS
SHARD = 1000  # rows
DISTINCT = 300  # pictures
WORDS = ("dog", "bird", "tiger cat", "vehicle", "resnet", "layer3", "layer2/channel/12", "lucid terrier", "207", "xyz")


def noise(generator: np.random.Generator) -> np.ndarray:
    """Coloured noise with as much at each scale as at any other, uint8 (side, side, 3), 128 to 224 pixels wide."""
    side = int(generator.integers(128, 225))
    total = np.zeros((side, side, 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64):
        grid = Image.fromarray(generator.integers(0, 256, (cells, cells, 3)).astype(np.uint8), "RGB")
        total += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), np.float32) / cells**0.5
    low, high = total.min(), total.max()
    return ((total - low) / (high - low) * 255).astype(np.uint8)


def _models(count: int) -> list[tuple[str, str]]:
    """(name, family) of so many models; beyond the known ones they get numbers."""
    known = [(network.name, network.family) for network in CURATED]
    return [
        (f"{n}_{i // len(known)}" if i >= len(known) else n, f)
        for i in range(count)
        for n, f in [known[i % len(known)]]
    ]


def _rows_of(model: str, family: str, drawn: list[tuple[bytes, bytes]], generator: random.Random) -> list[dict]:
    names, ids = labels.class_names(CLASSES), labels.synsets(CLASSES)
    rows = []

    def add(unit: str, number: int, recipe: str, layer: str, depth: int) -> None:
        of_class = not layer
        picture, thumbnail = generator.choice(drawn) if drawn else (None, None)
        rows.append({
            "unit_id": unit_id(model, unit, recipe, 0), "model": model, "architecture": model.partition(".")[0],
            "family": family, "layer": layer, "depth": depth, "kind": "class" if of_class else "channel",
            "index": number, "unit": unit, "title": labels.short(names[number]) if of_class else unit,
            "class_name": names[number] if of_class else "", "synset": ids[number] if of_class else "",
            "recipe": recipe, "recipe_hash": f"{hash(recipe) % 2**64:016x}", "seed": 0, "picture": picture,
            "thumbnail": thumbnail, "width": 224, "height": 224, "status": "dead" if generator.random() < 0.01 else "ok",
            "error": "", "score": generator.gauss(10, 3),
            "own_top": [{"index": i, "name": labels.short(names[i]), "probability": 0.2} for i in range(5)],
            "own_probability": generator.random() if of_class else None,
            "verifiers": [{"model": "resnet50.a1_in1k", "top": [{"index": 1, "name": "goldfish", "probability": 0.5}]}],
            "agreement": generator.randrange(4) / 3 if of_class else None, "spread": None,
            "fine_energy": generator.random(), "flat": "", "trace": [generator.random() for _ in range(64)],
            "restarts": 0, "weights_source": "hub", "weights_repo": f"timm/{model}", "weights_revision": "0" * 40,
            "weights_sha256": "1" * 64, "weights_digest": "2" * 64, "recipe_json": "{}" * 300, "steps": 512, "batch_size": 32,
            "batch_place": number % 32, "pixels_sha256": f"{generator.getrandbits(256):064x}",
            "environment": "{}" * 100, "seconds": 1.0, "created": "2026-01-01T00:00:00Z", "task": f"{number // 32:016x}",
        })  # fmt: skip

    for layer in range(LAYERS):
        for number in range(CHANNELS):
            add(f"layer{layer + 1}/channel/{number}", number, "lucid", f"layer{layer + 1}", layer)
    for number in range(CLASSES):
        for recipe in list(RECIPES)[:2]:
            add(f"class/{number}", number, recipe, "", LAYERS)
    return rows


def make(folder: Path, rows: int) -> None:
    """Write a made-up gallery of about so many rows, and its index."""
    generator = np.random.default_rng(0)
    pixels = [noise(generator) for _ in range(DISTINCT)]
    drawn = [(pictures.webp(p), pictures.thumbnail(p)) for p in pixels]
    start = time.perf_counter()
    left = rows
    for place, (model, family) in enumerate(_models(-(-rows // PER_MODEL))):
        of_model = _rows_of(model, family, drawn, random.Random(place))[:left]
        left -= len(of_model)
        below = folder / "data" / slug(model)
        below.mkdir(parents=True, exist_ok=True)
        for first in range(0, len(of_model), SHARD):
            table = shards.to_table(of_model[first : first + SHARD])
            (below / f"part-{first:06d}.parquet").write_bytes(shards.table_bytes(table))
    print(f"written in                    {time.perf_counter() - start:8.1f} s")
    start = time.perf_counter()
    build(folder)
    print(f"index made in                 {time.perf_counter() - start:8.1f} s")


def make_index(folder: Path, rows: int) -> None:
    """Write an index of about so many rows, of shards that are not there."""
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write(_light_tables(rows), Path(scratch), {})
        os.replace(Path(scratch) / NAME, folder / NAME)
    print(f"index made in                 {time.perf_counter() - start:8.1f} s")


def _light_tables(rows: int) -> Iterator[pa.Table]:
    """The rows of one model after another as the index has them: those of the first, with what differs put in its place."""
    generator = np.random.default_rng(0)
    like = shards.to_table(_rows_of("", "", [], random.Random(0))).select(list(LIGHT))
    of_class = np.asarray(pc.equal(like["layer"], ""))
    for number, (model, family) in enumerate(_models(-(-rows // PER_MODEL))):
        count = min(PER_MODEL, rows - number * PER_MODEL)
        place = np.arange(PER_MODEL)
        digests = generator.bytes(32 * PER_MODEL).hex()
        columns = {name: like[name] for name in like.column_names} | {
            "unit_id": pc.binary_join_element_wise(model, like["unit_id"], ""),
            "model": [model] * PER_MODEL,
            "architecture": [model.partition(".")[0]] * PER_MODEL,
            "family": [family] * PER_MODEL,
            "status": np.where(generator.random(PER_MODEL) < 0.01, "dead", "ok"),
            "score": pa.array(generator.normal(10, 3, PER_MODEL), pa.float32()),
            "own_probability": pa.array(generator.random(PER_MODEL, np.float32), mask=~of_class),
            "agreement": pa.array((generator.integers(0, 4, PER_MODEL) / 3).astype(np.float32), mask=~of_class),
            "fine_energy": generator.random(PER_MODEL, np.float32),
            "weights_repo": [f"timm/{model}"] * PER_MODEL,
            "pixels_sha256": [digests[64 * i : 64 * i + 64] for i in range(PER_MODEL)],
            "shard": [f"data/{slug(model)}/part-{i // SHARD * SHARD:06d}.parquet" for i in range(PER_MODEL)],
            "row_group": pa.array(place % SHARD // ROW_GROUP, pa.int32()),
            "row": pa.array(place % ROW_GROUP, pa.int32()),
        }
        yield pa.table(columns).select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA).slice(0, count)


@dataclass(frozen=True)
class Visit:
    """The questions of one visitor, each about something else every time.

    Attributes:
        gallery: that is asked.
        with_pictures: whether pictures are asked for, too.
        random: the visitor's choices.
    """

    gallery: Gallery
    with_pictures: bool
    random: random.Random

    def _page(self, filters: Filters, sort: str = "order", number: int = 1) -> None:
        self.gallery.facets(filters)
        entries = self.gallery.page(filters, sort, number).entries
        if self.with_pictures:
            self.gallery.thumbnails(entries)

    def _model(self) -> str:
        return self.random.choice(self.gallery.models())[0]

    def first(self) -> None:
        """The first page."""
        self._page(Filters())

    def turn(self) -> None:
        """Any page of all rows."""
        self._page(Filters(), number=self.random.randrange(1, self.gallery.rows // 48 + 2))

    def filter(self) -> None:
        """A page of one layer of one model."""
        model = self._model()
        layer = self.random.choice(self.gallery.layers(model))[0]
        self._page(Filters(model=model, layer=layer), number=self.random.randrange(1, 11))

    def search(self) -> None:
        """A page of a search, half of them for dogs."""
        self._page(
            Filters(self.random.choice([WORDS[0], self.random.choice(WORDS)])), number=self.random.randrange(1, 4)
        )

    def path(self) -> None:
        """The first page of a search for a channel by its path, mostly one that nobody has searched for before."""
        layer, number = self.random.randrange(LAYERS) + 1, self.random.randrange(CHANNELS)
        self._page(Filters(f"layer{layer}/channel/{number}"))

    def sort(self) -> None:
        """One of the first pages by a measure, of all rows or of one model's."""
        model = self.random.choice(["", self._model()])
        self._page(Filters(model=model), self.random.choice(list(SORTS)[1:]), self.random.randrange(1, 21))

    def unit(self) -> None:
        """One unit with all that belongs to it."""
        layer = self.random.randrange(LAYERS + 1)
        unit = (
            f"layer{layer}/channel/{self.random.randrange(CHANNELS)}"
            if layer
            else f"class/{self.random.randrange(CLASSES)}"
        )
        entry = self.gallery.entry(unit_id(self._model(), unit, "lucid", 0))
        if entry is None:  # the last model may be cut off
            return
        related = [
            *self.gallery.variants(entry), *self.gallery.same_class(entry)[:24], *self.gallery.neighbours(entry)
        ]  # fmt: skip
        if self.with_pictures:
            self.gallery.details(entry)
            self.gallery.picture(entry)
            self.gallery.thumbnails(related)

    def compare(self) -> None:
        """Four classes in six models."""
        names = self.random.sample(labels.class_names(CLASSES), 4)
        models = [model for model, _ in self.gallery.models()]
        table = self.gallery.compare(self.random.sample(models, min(6, len(models))), names)
        if self.with_pictures:
            self.gallery.thumbnails([entry for row in table for entry in row if entry])


QUESTIONS: dict[str, Callable[[Visit], None]] = {
    "first page": Visit.first,
    "any page": Visit.turn,
    "filter": Visit.filter,
    "search": Visit.search,
    "path": Visit.path,
    "sort": Visit.sort,
    "one unit": Visit.unit,
    "compare": Visit.compare,
}


def alone(visit: Visit, rounds: int) -> dict[str, list[float]]:
    """Seconds of each question, asked `rounds` times one after the other."""
    times = defaultdict(list)
    for _ in range(rounds):
        for name, ask in QUESTIONS.items():
            start = time.perf_counter()
            ask(visit)
            times[name].append(time.perf_counter() - start)
    return times


def together(visit: Visit, clients: int, think: float, seconds: float) -> dict[str, list[float]]:
    """Seconds of each question, asked by many clients at once."""
    times = defaultdict(list)
    begin = time.perf_counter() + 1
    end = begin + seconds

    def client(number: int) -> None:
        choice = random.Random(number)
        mine = Visit(visit.gallery, visit.with_pictures, choice)
        time.sleep(choice.random() * min(1, think))
        while (start := time.perf_counter()) < end:
            name, ask = choice.choice(list(QUESTIONS.items()))
            ask(mine)
            if start > begin:
                times[name].append(time.perf_counter() - start)
            time.sleep(choice.expovariate(1 / think) if think else 0)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def report(times: dict[str, list[float]]) -> None:
    """Print median and 95th percentile of each question and of all."""
    everything = [second for of_one in times.values() for second in of_one]
    for name, of_one in [*((name, times[name]) for name in QUESTIONS), ("all", everything)]:
        if of_one:
            median, high = statistics.median(of_one) * 1e3, float(np.percentile(of_one, 95)) * 1e3
            print(f"  {name:16} p50 {median:7.1f} ms   p95 {high:7.1f} ms   ({len(of_one)})")


def resident() -> float:
    """Memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Make the gallery if need be, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--index-only", action="store_true", help="a gallery without pictures")
    parser.add_argument("--rounds", type=int, default=30, help="of each question alone (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between a client's questions")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    if not (options.folder / NAME).exists():
        shutil.rmtree(options.folder / "data", ignore_errors=True)
        if options.index_only:
            make_index(options.folder, options.rows)
        else:
            make(options.folder, options.rows)
    labels.class_names(CLASSES)  # loaded before anything is measured, as in an app that knows its models
    before, start, used = resident(), time.perf_counter(), time.process_time()
    gallery = Gallery(options.folder)
    took = f"{time.perf_counter() - start:8.1f} s ({time.process_time() - used:.1f} of processor time)"
    print(f"opened in                     {took}, {resident() - before:.0f} MiB more than {before:.0f}")
    if gallery.rows != options.rows:
        raise SystemExit(f"{options.folder} holds a gallery of {gallery.rows} rows; give another folder.")
    size = sum(path.stat().st_size for path in find_shards(options.folder))
    index = (options.folder / NAME).stat().st_size
    print(
        f"bytes a row                   {size / gallery.rows:8.0f} in shards, {index / gallery.rows:.0f} in the index"
    )
    visit = Visit(gallery, not options.index_only, random.Random(0))
    start = time.perf_counter()
    visit.first()
    print(f"very first page               {(time.perf_counter() - start) * 1e3:8.1f} ms")
    print("alone")
    report(alone(visit, options.rounds))
    print(f"{options.clients} clients, {options.think:g} s between their questions")
    before = time.process_time()
    times = together(visit, options.clients, options.think, options.seconds)
    used = time.process_time() - before
    report(times)
    answers = sum(map(len, times.values()))
    print(
        f"  {answers / options.seconds:.0f} answers a second, {used / answers * 1e3:.1f} ms of processor time each, "
        f"{resident():.0f} MiB in the process"
    )


if __name__ == "__main__":
    main()

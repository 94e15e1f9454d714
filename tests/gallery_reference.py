"""The gallery's questions in SQL over all of its index, one statement each: slow, and on no path that the gallery takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb

from gallery.filters import FACETS, Filters
from gallery.search import Vocabulary
from lsd.features.recipes import DEFAULT

Place = tuple[str, int, int]  # shard, row group, row: which row it is

_TEXTS = ("unit_id", "model", "family", "layer", "kind", "unit", "title", "class_name", "synset", "recipe", "status")
_NUMBERS = ("depth", "index", "seed")
_MEASURES = ("score", "own_probability", "agreement", "fine_energy")
_SORTS = {
    "order": "n",
    "own": "own_probability DESC NULLS LAST, n",
    "agreement": "agreement DESC NULLS LAST, n",
    "score": "score DESC NULLS LAST, n",
    "fine": "fine_energy NULLS LAST, n",
    "name": "lower(title), n",
}


class Reference:
    """The index of a gallery's folder; every answer as rows' places instead of entries."""

    def __init__(self, folder: Path):
        cleaned = [
            *(f"coalesce({name}, '') AS {name}" for name in _TEXTS),
            *(f'coalesce("{name}", -1) AS "{name}"' for name in _NUMBERS),
            *(f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in _MEASURES),
        ]
        self._connection = duckdb.connect(config={"threads": 1})
        self._connection.execute(
            f"CREATE TABLE rows AS SELECT file_row_number AS n, {', '.join(cleaned)}, shard, row_group, row "
            "FROM read_parquet(?, file_row_number=true) ORDER BY n",
            [str(folder / "index.parquet")],
        )
        self._classes = self._all(
            "SELECT class_name, synset, count(DISTINCT model) FROM rows WHERE class_name != '' GROUP BY ALL ORDER BY ALL"
        )
        names = ("model", "layer", "kind", "recipe")
        known = [[value for (value,) in self._all(f"SELECT DISTINCT {name} FROM rows")] for name in names]
        self._vocabulary = Vocabulary([(name, synset) for name, synset, _ in self._classes], *known)

    def page(self, filters: Filters, sort: str, number: int, size: int) -> tuple[list[Place], int]:
        """The rows of a page and how many fit."""
        where, values = self._where(filters)
        ((total,),) = self._all(f"SELECT count(*) FROM rows WHERE {where}", values)
        number = min(max(1, number), max(1, -(-total // size)))
        rest = f"{where} ORDER BY {_SORTS[sort]} LIMIT {size} OFFSET {(number - 1) * size}"
        return self._places(rest, values), total

    def facets(self, filters: Filters) -> dict[str, list[tuple[str, int]]]:
        facets = {}
        for name in FACETS:
            where, values = self._where(filters, without=name)
            order = name if name in ("model", "family") else f"count(*) DESC, {name}"
            facets[name] = self._all(
                f"SELECT {name}, count(*) FROM rows WHERE {where} GROUP BY {name} ORDER BY {order}", values
            )
        # A layer's depth is the one in the first of the models that have it, whatever is searched for.
        where, values = self._where(replace(filters, search=""), without="layer")
        first = "arg_min(depth, (model, family, depth))"
        depths = dict(self._all(f"SELECT layer, {first} FROM rows WHERE {where} GROUP BY layer", values))
        facets["layer"].sort(key=lambda pair: (pair[0] == "", depths[pair[0]], pair[0]))
        return facets

    def classes(self, search: str) -> list[tuple[str, str, int]]:
        return [self._classes[place] for place in self._vocabulary.find_all_classes(search)]

    def entry(self, unit_id: str) -> list[Place]:
        return self._places("unit_id = ? ORDER BY n", [unit_id])

    def of_units(self, model: str, units: Sequence[str]) -> list[Place]:
        return self._places("model = ? AND unit IN (SELECT unnest(?::VARCHAR[])) ORDER BY n", [model, list(units)])

    def variants(self, model: str, unit: str, unit_id: str) -> list[Place]:
        return self._places("model = ? AND unit = ? AND unit_id != ? ORDER BY n", [model, unit, unit_id])

    def same_class(self, class_name: str, synset: str, model: str, kind: str, recipe: str) -> list[Place]:
        where, values = self._of_class(class_name, synset)
        first = "ROW_NUMBER() OVER (PARTITION BY model ORDER BY kind != ?, recipe != ?, seed, n) = 1"
        rest = f"{where} AND model != ? QUALIFY {first} ORDER BY model"
        return self._places(rest, [*values, model, kind, recipe])

    def neighbours(self, place: Place, count: int) -> list[Place]:
        same = " AND ".join(f"rows.{name} = me.{name}" for name in ("model", "layer", "kind", "recipe", "seed"))
        around = self._all(
            f"SELECT rows.shard, rows.row_group, rows.row FROM rows, rows AS me WHERE {same} "
            "AND (me.shard, me.row_group, me.row) = (?, ?, ?) ORDER BY rows.n",
            place,
        )
        at = around.index(place)
        before, after = around[:at], around[at + 1 :]
        first = min(len(before), max(count // 2, count - len(after)))
        return before[len(before) - first :] + after[: count - first]

    def compared(self, model: str, class_name: str, recipe: str) -> Place | None:
        ids = [hit for hit in self._classes if class_name and class_name in hit[:2] and hit[1]]
        where, values = self._of_class(*(ids[0][:2] if ids else (class_name, "")))
        rest = f"{where} AND model = ? AND ? IN ('', recipe) ORDER BY kind != 'class', recipe != ?, recipe, seed, n LIMIT 1"
        return next(iter(self._places(rest, [*values, model, recipe, DEFAULT])), None)

    def _all(self, sql: str, values: Sequence = ()) -> list[tuple]:
        return self._connection.execute(sql, list(values)).fetchall()

    def _places(self, rest: str, values: Sequence) -> list[Place]:
        return self._all(f"SELECT shard, row_group, row FROM rows WHERE {rest}", values)

    def _of_class(self, class_name: str, synset: str) -> tuple[str, list]:
        by_name = "? != '' AND class_name = ? AND (? = '' OR synset = '')"
        values = [class_name, class_name, synset, synset, synset]
        return f"class_name != '' AND (({by_name}) OR (? != '' AND synset = ?))", values

    def _where(self, filters: Filters, without: str = "") -> tuple[str, list]:
        conditions, values = ["true"], []
        for name in FACETS:
            wanted = getattr(filters, name)
            if name != without and wanted != (None if name == "layer" else ""):
                conditions.append(f"{name} = ?")
                values.append(wanted)
        for meaning in self._vocabulary.meanings(filters.search):
            classes = [self._classes[place][:2] for place in sorted(meaning.classes)]
            ways = [" OR ".join("(class_name = ? AND synset = ?)" for _ in classes) or "false"]
            values += [value for named in classes for value in named]
            for name in ("model", "layer", "kind", "recipe"):
                ways.append(f"{name} IN (SELECT unnest(?::VARCHAR[]))")
                values.append(sorted(getattr(meaning, f"{name}s")))
            if meaning.index is not None:
                ways.append('"index" = ?')
                values.append(meaning.index)
            if meaning.path:
                ways.append("contains(lower(unit_id) || '/', ?)")
                values.append(meaning.path + ("/" if meaning.path[-1].isdecimal() else ""))
            if meaning.text:
                ways.append("(kind IN ('contrast', 'expression') AND contains(lower(unit) || ' ' || lower(title), ?))")
                values.append(meaning.text)
            conditions.append(f"({' OR '.join(ways)})")
        return " AND ".join(conditions), values

"""The data set's metadata in Croissant, which tools other than `datasets` read it by: https://docs.mlcommons.org/croissant/."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from gallery.index import NAME
from gallery.schema import SCHEMA
from gallery.shards import PICTURES
from precompute.columns import COLUMNS

FILE = "croissant.json"

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_LICENCE = "https://choosealicense.com/licenses/apache-2.0/"
_SHARDS = "shards"


def croissant(folder: Path, repo: str, description: str, created: str) -> str:
    """The metadata of an assembled data set, JSON-LD of Croissant 1.0: its rows, and its index.

    Args:
        folder: with its index, of which the digest is stated.
        repo: "user/name".
        description: for people.
        created: ISO date of the latest row, "" if no row says when it was made.
    """
    name = repo.rpartition("/")[2]
    with open(folder / NAME, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parquet = "application/x-parquet"
    about = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "license": _LICENCE,
        **({"datePublished": created} if created else {}),
        "version": "1.0.0",
        "citeAs": f"{name}, made by LSD",
        "url": f"https://huggingface.co/datasets/{repo}",
        "distribution": [
            {"@type": "cr:FileSet", "@id": _SHARDS, "encodingFormat": parquet, "includes": "data/*/*.parquet"},
            {"@type": "cr:FileObject", "@id": NAME, "contentUrl": NAME, "encodingFormat": parquet, "sha256": digest},
        ],
        "recordSet": [_records("rows", {"fileSet": {"@id": _SHARDS}}, SCHEMA)],
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def _records(name: str, source: dict, schema: pa.Schema) -> dict:
    fields = list(_fields(name, source, schema))
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": f"{name}/unit_id"}, "field": fields}


def _fields(name: str, source: dict, schema: pa.Schema) -> Iterator[dict]:
    for column in schema:
        of_column = source | {"extract": {"column": column.name}}
        field = {"@type": "cr:Field", "@id": f"{name}/{column.name}", "name": column.name}
        field["description"] = COLUMNS[column.name]
        kind = column.type
        if pa.types.is_list(kind):
            field["repeated"], kind = True, kind.value_type
        if column.name in PICTURES:
            yield field | {
                "dataType": "sc:ImageObject",
                "source": of_column | {"transform": {"jsonPath": "bytes"}},
            }
        elif pa.types.is_struct(kind):
            yield field | {
                "subField": [_part(field["@id"], of_column, part) for part in kind if not pa.types.is_list(part.type)]
            }
        else:
            yield field | {"dataType": _data_type(kind), "source": of_column}


def _part(of: str, source: dict, part: pa.Field) -> dict:
    """A part of a column of structures. Of those that are lists themselves Croissant has no word: they are in the files alone."""
    return {
        "@type": "cr:Field",
        "@id": f"{of}/{part.name}",
        "name": part.name,
        "dataType": _data_type(part.type),
        "source": source | {"transform": {"jsonPath": part.name}},
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text"

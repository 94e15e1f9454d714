"""Which files of a gallery this version reads: those of its own format and of all before it.

The number stands in the metadata of every shard and of the index. Columns that an older file lacks are null, and ones that
are not the gallery's are left alone.

- 1: the first
- 2: with `weights_digest`; later with `contrast` and `clipped`, with `notes`, and with `said` and `names_assumed`
- 3: the number stands in the files, and the index says which shards it covers; the columns are those of 2
- 4: with `photos`, `exemplars`, `crops` and `path`
"""

from collections.abc import Collection

import pyarrow as pa

FORMAT = 4
KEY = "lsd_format"


def why_not(found: pa.Schema, wanted: pa.Schema, required: Collection[str]) -> str:
    """What keeps a file from being read, as the end of a sentence that begins with its name; "" if nothing does.

    Args:
        found: the file's columns, and its metadata.
        wanted: the columns as this version has them.
        required: those that it has to have.
    """
    stated = (found.metadata or {}).get(KEY.encode(), b"0").decode(errors="replace")
    if not stated.isdecimal() or int(stated) > FORMAT:
        return f"is of format {stated[:20]}, and this version reads formats up to {FORMAT}; update the program"
    for field in wanted:
        if field.name not in found.names:
            if field.name in required:
                return f"has other columns than a gallery: it lacks “{field.name}”"
        elif found.names.count(field.name) > 1 or found.field(field.name).type != field.type:
            return f"has other columns than a gallery: “{field.name}” is of another type"
    return ""

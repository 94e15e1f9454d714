"""Pictures and whole rows out of the shards, one column of one row group at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from gallery.formats import why_not
from gallery.schema import REQUIRED, SCHEMA
from gallery.shards import CROPS, PICTURES, ShardError
from lsd.recent import Recent

_THUMBNAILS = 128 * 2**20  # bytes of thumbnails kept
_FOOTERS = 16 * 2**20  # bytes of footers kept, as they are in the files; unpacked they are seven times that
_REST = [name for name in SCHEMA.names if name not in (*PICTURES, CROPS)]


class Reader:
    """Reads the shards of one gallery; many threads may use it at once.

    Args:
        locate: the file of a shard, given its path below the gallery's folder: where it lies on a disk, or `nbytes` long and
            open for reading. Raises LSDError if it cannot be had.
    """

    def __init__(self, locate: Callable[[str], Path | BinaryIO]):
        self._locate = locate
        self._footers: Recent[pq.FileMetaData] = Recent(_FOOTERS, lambda footer: footer.serialized_size)
        self._thumbnails: Recent[dict[str, bytes]] = Recent(
            _THUMBNAILS, lambda group: sum(len(key) + len(data) + 200 for key, data in group.items())
        )

    def picture(self, shard: str, row_group: int, unit_id: str) -> bytes:
        """A row's picture as WebP, b"" if it has none.

        Raises:
            ShardError: the shard cannot be read, or does not have the row there.
        """
        return _of(self._pictures(shard, row_group, "picture"), unit_id, shard)

    def thumbnails(self, places: Sequence[tuple[str, int, str]]) -> list[bytes]:
        """The thumbnails of rows, given as (shard, row group, unit id), each as WebP, b"" where a row has none.

        Raises:
            ShardError: as `picture`.
        """
        groups = {
            (shard, group): self._thumbnails.get(
                (shard, group), lambda shard=shard, group=group: self._pictures(shard, group, "thumbnail")
            )
            for shard, group in dict.fromkeys(place[:2] for place in places)
        }
        return [_of(groups[shard, group], unit_id, shard) for shard, group, unit_id in places]

    def row(self, shard: str, row_group: int, unit_id: str) -> dict:
        """All of a row but its pictures, by column.

        Raises:
            ShardError: as `picture`.
        """
        table = self._read(shard, row_group, _REST)
        rows = {name: table.slice(row, 1) for row, name in enumerate(table["unit_id"].to_pylist())}
        return _of(rows, unit_id, shard).to_pylist()[0]

    def crops(self, shard: str, row_group: int, unit_id: str) -> list[bytes]:
        """A row's cut-out exemplars as WebP, in their order; none where it has no copies of them.

        Raises:
            ShardError: as `picture`.
        """
        table = self._read(shard, row_group, ["unit_id", CROPS])
        if CROPS not in table.column_names:
            return []
        rows = {name: table.slice(row, 1) for row, name in enumerate(table["unit_id"].to_pylist())}
        return [crop["bytes"] or b"" for crop in _of(rows, unit_id, shard)[CROPS].to_pylist()[0] or () if crop]

    def _pictures(self, shard: str, row_group: int, column: str) -> dict[str, bytes]:
        """The pictures of one row group by unit id."""
        table = self._read(shard, row_group, ["unit_id", f"{column}.bytes"])
        if column not in table.column_names:
            return dict.fromkeys(table["unit_id"].to_pylist(), b"")
        pictures = table[column].combine_chunks().field("bytes").to_pylist()
        return {unit_id: data or b"" for unit_id, data in zip(table["unit_id"].to_pylist(), pictures, strict=True)}

    def _read(self, shard: str, row_group: int, columns: list[str]) -> pa.Table:
        if not _is_below(shard):
            raise ShardError(f"The gallery's file {shard} is not among its own; make the index again.")
        source = self._locate(shard)
        far = not isinstance(source, Path)
        try:
            state = (
                (source.nbytes,) if far else _state(source)
            )  # a file may be put in another's place while it is served
            footer = self._footers.get((shard, *state), lambda: pq.read_metadata(source))
            with pq.ParquetFile(source, metadata=footer, pre_buffer=far, page_checksum_verification=True) as file:
                table = file.read_row_group(row_group, columns, use_threads=False)
                lacks = {column.partition(".")[0] for column in columns} - {*table.column_names}
                reason = why_not(file.schema_arrow, SCHEMA, REQUIRED) if lacks else ""
        except (pa.ArrowException, OSError, IndexError) as error:
            raise ShardError(f"The gallery's file {shard} cannot be read; make the index again.") from error
        if reason:
            raise ShardError(f"The gallery's file {shard} {reason}; make the index again.")
        return table


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _is_below(shard: str) -> bool:
    """Whether a path stays in the gallery's folder: an index may come from anybody."""
    path = PurePosixPath(shard)
    return not path.is_absolute() and ".." not in path.parts


def _of(group: dict, unit_id: str, shard: str):
    """The value of a row, found by its id: a shard that was replaced since the index must not show another row's."""
    if unit_id not in group:
        raise ShardError(f"The gallery's file {shard} has changed since its index was made; make the index again.")
    return group[unit_id]

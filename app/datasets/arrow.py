"""Writes Parquet files: equal rows give equal bytes."""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.datasets.columns import COLUMNS

# rows that are held in memory at once
GROUP_ROWS = 1000

_TYPES = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    date: pa.date32(),
    datetime: pa.timestamp("us", "UTC"),
}


def fields() -> list[pa.Field]:
    """Return the fields of all columns of an episode."""
    return [pa.field(column.name, _TYPES[column.type]) for column in COLUMNS]


def write(
    path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]], group_rows: int = GROUP_ROWS
) -> None:
    """Write rows, which are dicts of all fields, in groups of so many."""
    waiting = iter(rows)
    with writer(path, schema) as file:
        while group := list(islice(waiting, group_rows)):
            file.write_table(pa.Table.from_pylist(group, schema))


def writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # what every reader of Parquet knows
    return pq.ParquetWriter(path, schema, compression="snappy", version="2.6")

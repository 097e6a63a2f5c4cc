"""The Parquet files of a release: all that is known of its episodes, a row each."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from app.datasets import arrow
from app.datasets.columns import record
from app.datasets.model import Episode


def write(episodes: Iterable[Episode], path: Path) -> None:
    arrow.write(path, pa.schema(arrow.fields()), (record(episode) for episode in episodes))

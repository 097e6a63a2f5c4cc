"""Makes a release of real footage in a directory, for the readers: python -m tests.readers.make DIR."""

import sys
import tempfile
from pathlib import Path

from tests.datasets.releases import Release, assorted
from tests.videos import Videos

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        Release(assorted(Videos(Path(scratch)))).build(Path(sys.argv[1]))
